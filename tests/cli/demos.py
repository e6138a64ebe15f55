"""A demo as a user runs it, with all its processes in hand."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import TIDEGATE, clean_environment
from tests.processes import family_of, kill, lives

NULL = {"TIDEGATE_MODELS__PRESET": "null"}
#: A role whose broker is gone waits five seconds for what is in flight, and is ended ten later.
_GONE_WITHIN_S = 30.0
ONCE = ("--exit-when-done", "--no-browser", "--json", "--port", "0")


class Demo:
    """A demo that runs; whatever of it is left at the end is killed and fails the test."""

    def __init__(self, folder: Path, *arguments: str, env: dict[str, str]) -> None:
        self.folder = folder
        (folder / "tmp").mkdir(exist_ok=True)
        self._errors = folder / "stderr"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [TIDEGATE, "demo", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=clean_environment(env | {"TMPDIR": str(folder / "tmp")}),
                cwd=folder,
                start_new_session=True,
            )
        self._known: dict[int, psutil.Process] = {}

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def family(self) -> list[psutil.Process]:
        """Every process of the demo that was ever seen and still lives."""
        self._known.update({process.pid: process for process in family_of(self.process.pid)})
        return [process for process in self._known.values() if lives(process)]

    def find(self, *words: str) -> psutil.Process | None:
        for process in self.family():
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if "broker_supervisor.py" not in " ".join(command) and set(words) <= set(command):
                return process
        return None

    def wait_for(self, what: Callable[[], Any], timeout_s: float = 60) -> Any:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.family()
            if found := what():
                return found
            assert self.process.poll() is None or what(), self.errors
            time.sleep(0.05)
        pytest.fail(f"did not happen in {timeout_s} s\n{self.errors}")

    def finish(self, timeout_s: float = 120) -> tuple[int, dict[str, Any]]:
        """Its exit code and the last line of its output."""
        out, _ = self.process.communicate(timeout=timeout_s)
        lines = out.decode().splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else {}

    def gone(self) -> None:
        """Wait for every process of it to be gone."""
        _, alive = psutil.wait_procs(self.family(), timeout=_GONE_WITHIN_S)
        if commands := [" ".join(process.cmdline()) for process in alive if lives(process)]:
            pytest.fail(f"still there after {_GONE_WITHIN_S:.0f} s: {commands}\n{self.errors}")

    def kill_what_is_left(self) -> None:
        kill(self.family())
        self.process.communicate()


StartDemo = Callable[..., Demo]
