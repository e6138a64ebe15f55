"""Streamlit in this process, as `tidegate dashboard` and `tidegate demo` start it.

Invariant: the server ends with the process that started it, however that one ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

APP = str(Path(__file__).with_name("app.py"))


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def warm_up() -> None:
    """Load what the first chart needs, so that the first visitor does not wait for it; see `draw_unchecked`."""
    import altair as alt
    import pandas as pd

    from dashboard.drawing import draw_unchecked

    draw_unchecked()
    data = pd.DataFrame({"at": [0.0]})
    alt.Chart(data).mark_line().encode(x="at:Q").to_dict(validate=False)


def main() -> None:
    """`python -m dashboard.serve [streamlit's flags]`."""
    _end_with_parent()
    warm_up()
    from streamlit.web.cli import main as streamlit

    sys.argv = ["streamlit", "run", APP, *sys.argv[1:]]
    streamlit()


if __name__ == "__main__":
    main()
