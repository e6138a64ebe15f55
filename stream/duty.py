"""One role in a process of its own: `python -m stream.duty ROLE UNIT`, started by the supervisor.

The settings come as one line of JSON on standard input, which then stays open: when it ends, our
parent is gone, and so are we. An error goes to standard output for the parent to raise.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import msgspec

from stream.errors import TidegateError
from stream.roles import Duty
from stream.settings import Settings
from stream.supervisor import Failure
from stream.worker import run_worker


def _end_with_parent() -> None:
    """Wait for the end of standard input, then stop in good order."""
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(error: TidegateError) -> None:
    # A parent that is gone wants to know nothing.
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), msgspec.json.encode(Failure.of(error)) + b"\n")


def main() -> int:
    """Do the duty; the exit code."""
    import structlog

    duty = Duty(*sys.argv[1:3])
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return 0  # the parent died before it said anything
        line += byte
    settings = Settings.model_validate_json(bytes(line))
    structlog.contextvars.bind_contextvars(role=duty.name)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        run_worker(settings, duty=duty, report=_tell)
    except TidegateError as error:
        _tell(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
