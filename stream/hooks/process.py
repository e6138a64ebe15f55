"""A command that reads records on its standard input: no shell, few variables, and an end in time.

The invariant: when an attempt is over, nothing of the command runs any more; it has a process
group of its own, which is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from stream.hooks.events import Event
from stream.hooks.formats.lines import lines_of
from stream.hooks.targets import Command
from stream.hooks.verdict import Outcome, Verdict
from stream.kafka.client import reason_of

#: What a command gets of our environment: nothing that could be a secret.
_PASSED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
#: `EX_DATAERR` of sysexits.h: the command says that the record is what is wrong.
_DATA_ERROR: Final = 65
_KEPT_BYTES: Final = 4096
_SHOWN_CHARS: Final = 200
_LAST_WORDS_S: Final = 0.5
_POLL_S: Final = 0.01


class CommandSender:
    """Runs the command once for each attempt.

    Args:
        target: from the file.
    """

    def __init__(self, target: Command) -> None:
        self._target = target

    async def send(self, events: Sequence[Event], at: datetime) -> Verdict:  # noqa: ARG002 - the protocol's
        """One run; exit code 0 is a yes, 65 a no for good, and everything else a failure."""
        target = self._target
        name = os.path.basename(target.command[0])  # noqa: PTH119 - as the user wrote it
        try:
            process = await asyncio.create_subprocess_exec(
                *target.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd=target.directory,
                env=self._environ(),
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            return Verdict(Outcome.FAILED, None, f"`{name}` cannot be started: {reason_of(exc)}")
        try:
            async with asyncio.timeout(target.timeout_s):
                said = await _fed(process, lines_of(target, events))
                code = await _exited(process)
        except TimeoutError:
            return Verdict(Outcome.FAILED, None, f"`{name}` did not end in {target.timeout_s:g} s")
        finally:
            await _ended(process)
        if code == 0:
            return Verdict(Outcome.DELIVERED, 0)
        shown = f": {said}" if said else ""
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        outcome = Outcome.REFUSED if code == _DATA_ERROR else Outcome.FAILED
        return Verdict(outcome, code, f"`{name}` ended with {ended}{shown}")

    async def close(self) -> None:
        """Nothing is kept running."""

    def _environ(self) -> dict[str, str]:
        names = (*_PASSED, *self._target.pass_environment)
        passed = {name: os.environ[name] for name in names if name in os.environ}
        return passed | self._target.environment


async def _fed(process: asyncio.subprocess.Process, data: bytes) -> str:
    """Write the input and read the errors at the same time; the end of the errors, on one line."""
    assert process.stdin is not None
    assert process.stderr is not None
    errors = asyncio.ensure_future(_last_of(process.stderr))
    try:
        # A command need not read what it does not want.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.close()
        await _exited(process)
        # Something that it left behind may hold the pipe open.
        await asyncio.wait({errors}, timeout=_LAST_WORDS_S)
        text = errors.result().decode("utf-8", "replace") if errors.done() else ""
    finally:
        errors.cancel()
    line = " ".join(text.split())[-_SHOWN_CHARS:]
    return "".join(c if c.isprintable() else "�" for c in line)


async def _exited(process: asyncio.subprocess.Process) -> int:
    """The exit code. `Process.wait` waits for the pipes too, which others may hold open."""
    while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_POLL_S)
    return process.returncode


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(_KEPT_BYTES):
        kept = (kept + chunk)[-_KEPT_BYTES:]
    return kept


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Kill the group, also what outlives the command itself, and reap the command."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await _exited(process)
    # A grandchild in a session of its own may hold the pipes open: ours are closed.
    process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - no public way
