"""Whether the audit's chains are whole, found out beside the pages: a million entries take seconds.

Invariant: what `ask` gives was read in one moment of the read model, from the first entry to the
last, and says which moment that was.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from dashboard.errors import ReadModelError
from dashboard.queries.audit import Chain, chains, verify_chain
from dashboard.reader import open_reader
from stream.database_url import ReadModelAt

#: After so long they are read again, while somebody looks.
_FRESH_MS: Final = 600_000
#: So long a page waits for them: those of a small read model are there at once.
_PATIENCE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Verified:
    """The chains as they were then; `broken` names the first entry of each that does not fit."""

    at_ms: int
    chains: list[Chain]
    broken: str


class Verifier:
    """Reads the chains of one read model, one time after the other, for all browsers.

    Args:
        at: the read model.
    """

    def __init__(self, at: ReadModelAt) -> None:
        self._at = at
        self._pool = ThreadPoolExecutor(1, "audit-verifier")
        self._lock = threading.Lock()
        self._running: Future[Verified | None] | None = None
        self._latest: Verified | None = None

    def ask(self, now_ms: int, *, again: bool = False) -> tuple[Verified | None, bool]:
        """What was found last, and whether they are being read now.

        Args:
            now_ms: the moment that a reading which begins now is said to be of.
            again: somebody wants to know it anew.
        """
        with self._lock:
            latest = self._latest
            old = latest is None or now_ms - latest.at_ms > _FRESH_MS
            if self._running is None and (old or again):
                self._running = self._pool.submit(verified, self._at, now_ms)
            if (running := self._running) is None:
                return latest, False
        # A read model that cannot be read is what the rest of the page says.
        with suppress(TimeoutError, ReadModelError):
            found = running.result(_PATIENCE_S)
            with self._lock:
                self._latest = found
        with self._lock:
            if running.done() and self._running is running:
                self._running = None
            return self._latest, self._running is not None


def verified(at: ReadModelAt, now_ms: int) -> Verified | None:
    """Every chain read through; None: there is no read model.

    Raises:
        ReadModelError: it cannot be read.
    """
    with open_reader(at) as reader:
        if reader is None:
            return None
        # One moment of the file: the projector goes on while this reads.
        with reader.db.one_moment():
            found = chains(reader.db)
            broken = [b for chain in found if (b := verify_chain(reader.db, chain)) is not None]
    words = "; ".join(f"{b.chain}[{b.partition}]@{b.offset}: {b.why}" for b in broken)
    return Verified(now_ms, found, words)
