"""A process of the demo's: its output in a file, its life no longer than ours.

The invariant: however this process ends, kill -9 included, the child ends too. The supervisor of
the embedded broker sees to that; the child is its child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from stream.errors import TidegateError

_SUPERVISOR: Final = Path(__file__).parent.parent / "kafka" / "broker_supervisor.py"
#: The supervisor kills what has not ended this long after it was told to.
_SUPERVISOR_GRACE_S: Final = 6.0
_LOG_TAIL_BYTES: Final = 16 * 1024


class Child:
    """A command that can be started again after it died.

    Args:
        name: what it is called to the user.
        arguments: of `tidegate`.
        environ: its whole environment.
        log_file: where its output goes; a second start appends.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], log_file: Path
    ) -> None:
        self.name = name
        self.log_file = log_file
        self.pid = 0
        self._arguments = arguments
        self._environ = dict(environ)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start it; it must not be running.

        Raises:
            TidegateError: the interpreter cannot be started.
        """
        assert not self.alive
        self._release()
        # -P: a folder named `stream` in the user's working directory is not ours.
        command = [sys.executable, "-P", "-m", "stream", *self._arguments]
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._supervisor = subprocess.Popen(  # noqa: S603 - our own script and program
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self._environ,
                    start_new_session=True,  # Ctrl-C is ours; we end them in order
                )
            except OSError as exc:
                raise TidegateError(f"the {self.name} cannot be started: {exc.strerror}") from exc
        assert self._supervisor.stdout is not None
        self.pid = int(self._supervisor.stdout.readline() or b"0")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, 128 and the signal's number where one ended it; None while it runs."""
        return None if self._supervisor is None else self._supervisor.poll()

    def new_output(self) -> str:
        """What it wrote since its last start, at most the last 16 KiB of it."""
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace")
        return ""

    def last_lines(self, count: int = 8) -> list[str]:
        """The end of its output."""
        return [line for line in self.new_output().splitlines() if line.strip()][-count:]

    def ask_to_stop(self) -> None:
        """Send SIGTERM; `stop` waits."""
        if self.alive and self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout_s: float) -> None:
        """Wait for its end, `timeout_s` at most, then end it; safe to call twice."""
        if self._supervisor is None:
            return
        deadline = time.monotonic() + timeout_s
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        self._release()

    def _release(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            supervisor.stdin.close()  # the supervisor ends its child
        try:
            supervisor.wait(_SUPERVISOR_GRACE_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        supervisor.stdout.close()
