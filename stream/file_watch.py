"""What was loaded from files, kept up to date with them; from any thread.

Invariant: all or nothing. `loaded` is always whole and without a mistake; after a change with a
mistake in it the one before stays in force and `error` says what is wrong.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Generic, TypeVar

from stream.errors import TidegateError

Loaded = TypeVar("Loaded")


class FileWatch(ABC, Generic[Loaded]):
    """Loads something and loads it again when a file of it changed.

    Args:
        reload_s: the least time between two looks at the files.

    Raises:
        TidegateError: there is nothing whole to begin with.
    """

    def __init__(self, reload_s: float) -> None:
        self._reload_s = reload_s
        self._lock = threading.Lock()
        self._files: tuple[Path, ...] = ()
        self.error: TidegateError | None = None
        # The contents are read before they are loaded: a change in between is seen next time.
        self._seen = self._contents()
        self.loaded: Loaded
        self.loaded, files = self._load()
        if files != self._files:
            self._files = files
            self._seen = self._contents()
        self._next_s = time.monotonic() + reload_s

    @abstractmethod
    def _load(self) -> tuple[Loaded, tuple[Path, ...]]:
        """What the files say now, and which they are; raises what is wrong with them."""

    @abstractmethod
    def _named(self) -> Iterable[Path]:
        """The files as they are known without loading any."""

    @abstractmethod
    def _is_other(self, loaded: Loaded) -> bool:
        """Whether what was just loaded is to be told apart from what is in force."""

    def poll(self, *, now: bool = False) -> bool:
        """Look at the files if `reload_s` has passed since the last look: is it another now?

        With `now` also if it has not.

        Call it once per batch; between looks it costs a clock reading. It blocks while files are
        read and loaded (tens of milliseconds); `asyncio.to_thread(watch.poll)` where that hurts.
        """
        if (time.monotonic() < self._next_s and not now) or not self._lock.acquire(blocking=False):
            return False
        try:
            self._next_s = time.monotonic() + self._reload_s
            return self._look()
        finally:
            self._lock.release()

    def _look(self) -> bool:
        contents = self._contents()
        # While there is a mistake what would mend it may be a file that nothing names yet.
        if contents == self._seen and self.error is None:
            return False
        self._seen = contents
        try:
            loaded, files = self._load()
        except TidegateError as error:
            if self.error is None or str(error) != str(self.error):
                self.error = error
            return False
        changed = self._is_other(loaded)
        self.error = None
        self._files = files
        # Also where it is no other: line numbers and comments may be new.
        self.loaded = loaded
        return changed

    def _contents(self) -> bytes:
        digest = blake2b()
        for path in dict.fromkeys([*self._named(), *self._files]):
            digest.update(str(path).encode())
            try:
                digest.update(path.read_bytes())
            except OSError as exc:
                digest.update(str(exc.errno).encode())
        return digest.digest()
