"""Runs one command and ends it when the parent ends, however the parent ends.

Run as a script by `stream.kafka.embedded`, never imported by it: `python -I -S broker_supervisor.py
PARENT_PID COMMAND ...` with a pipe from the parent as standard input. The invariant: the command
lives no longer than the pipe's other end. A kill -9 of the parent closes the pipe; where a forked
relative of the parent still holds it open, the change of our own parent's id tells. The kernel
tells the command when this process itself is killed (Linux only: there is no such call on macOS).

`PR_SET_PDEATHSIG` is set here and not in the parent because it fires when the forking *thread*
ends, and this process has only one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
#: How long the command may take to end after SIGTERM before it is killed.
_GRACE_S = 3.0
#: How often the parent's id is compared; the pipe tells at once in every ordinary case.
_PARENT_CHECK_S = 1.0


def _die_with_this_process() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    supervisor = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died before the call above
            os.kill(os.getpid(), signal.SIGKILL)

    return in_child


def _wait(process: subprocess.Popen[bytes], parent: int, wakeup: int) -> None:
    """Return when the command has ended, the parent is gone, or a SIGTERM asks us to stop."""
    while process.poll() is None and os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin.fileno(), wakeup], [], [], _PARENT_CHECK_S)
        if sys.stdin.fileno() in ready:
            return
        if wakeup in ready and signal.SIGTERM in os.read(wakeup, 64):
            return


def main() -> int:
    """Run the command; its exit code, or 0 when it was stopped by us."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    wakeup, wakeup_in = os.pipe()
    os.set_blocking(wakeup_in, False)
    signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal's; the parent decides
        signal.signal(number, signal.SIG_IGN)
    process = subprocess.Popen(  # noqa: S603 - the command is our own caller's
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_this_process(),  # noqa: PLW1509 - single-threaded, see above
    )
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), b"%d\n" % process.pid)
    _wait(process, parent, wakeup)
    if (code := process.poll()) is not None:
        return code if code >= 0 else 128 - code
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
