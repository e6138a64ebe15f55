from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("first", ["import models.scorer", "import stream.diagnosis"])
def test_onnxruntime_reports_to_nobody(first: str, tmp_path: Path) -> None:
    """With telemetry on it writes a session id into the folder for temporary files when imported."""
    pytest.importorskip("onnxruntime")
    environ = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}

    subprocess.run(
        [sys.executable, "-c", f"{first}; import onnxruntime"],
        env=environ | {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        check=True,
    )

    assert list(tmp_path.iterdir()) == []
