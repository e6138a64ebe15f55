"""Who may write a read model: one process at a time, and a rebuild that takes it over.

The invariant: the lock is the system's, so it ends with its process however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dashboard.errors import ReadModelError
from stream.database_url import PostgresUrl, ReadModelAt

_HAND_OVER_S: Final = 90.0


class Lock:
    """A lock beside the file, held until it is closed or the process ends, however it ends."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def close(self) -> None:
        """Let another one in."""
        os.close(self._handle)


def locked(path: Path) -> Lock:
    """The lock of whoever writes the file.

    Raises:
        ReadModelError: somebody else writes it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as exc:
        raise ReadModelError(
            f"cannot write the read model: {exc.strerror}",
            where=str(path),
            hint="choose another file with `--database FILE`",
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise ReadModelError(
            "another projector writes this read model",
            where=str(path),
            hint="stop it, or choose another file with `--database FILE`",
        ) from exc
    return Lock(lock)


@contextmanager
def hand_over(at: ReadModelAt) -> Iterator[None]:
    """Ask whoever writes the read model to let go of it, and not to come back before the end."""
    if isinstance(at, PostgresUrl):
        from dashboard.database import driver

        with driver().hand_over(at):
            yield
        return
    marker = _marker(at)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch(mode=0o600)
    try:
        yield
    finally:
        marker.unlink(missing_ok=True)


def handed_over(at: ReadModelAt) -> bool:
    """Whether a rebuild is about to put another read model here; one that died does not count."""
    if isinstance(at, PostgresUrl):
        from dashboard.database import driver

        return bool(driver().handed_over(at))
    try:
        return time.time() - _marker(at).stat().st_mtime < _HAND_OVER_S
    except OSError:
        return False


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.hand-over")
