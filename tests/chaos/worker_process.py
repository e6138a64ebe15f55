"""A worker with a made-up scorer as a process of its own: what the trials kill.

Run as `python -m tests.chaos.worker_process DELAY_S` with `TIDEGATE_*` in the environment.
"""

from __future__ import annotations

import sys

from stream.cli.main import print_error
from stream.errors import TidegateError
from stream.settings import load_settings
from stream.worker import run_worker
from tests.chaos.posts import PoisonedScorer

if __name__ == "__main__":
    try:
        run_worker(load_settings(), PoisonedScorer(float(sys.argv[1])))
    except TidegateError as error:
        print_error(error)
        sys.exit(1)
