"""Posts of saved topics, counted beside the pages: to read the texts of a million posts takes seconds.

Invariant: a post is counted once for a query, whatever was read when; the counts say how many of
the posts held they are of. Posts that were edited or taken back since are counted anew after a
while (`_FRESH_S`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dashboard.database import Database
from dashboard.errors import ReadModelError
from dashboard.projection import COARSE_S
from dashboard.queries.brands import Query, posts_meant
from dashboard.queries.trends import NOTHING, Figures
from dashboard.reader import open_reader
from dashboard.scope import EVERYTHING, Scope
from stream.database_url import ReadModelAt

#: Posts whose texts are read between two looks at what else is asked for.
_CHUNK: Final = 20_000
#: So long a page waits: the counts of a small read model, or of what came since, are there at once.
_PATIENCE_S: Final = 0.1
#: After so long everything is read again, while somebody looks.
_FRESH_S: Final = 600.0
_PLACES: Final = {"positive": 1, "neutral": 2, "negative": 3}


class Known(NamedTuple):
    """What is known of a query: figures by step, and of how many of the posts held."""

    by_step: dict[int, Figures]
    counted: int
    held: int

    @property
    def whole(self) -> bool:
        """Whether all posts held were counted."""
        return self.counted >= self.held

    def within(self, from_s: int, to_s: int) -> Figures:
        """The figures of a stretch of whole steps."""
        total = [0] * len(NOTHING)
        for start, figures in self.by_step.items():
            if from_s <= start < to_s:
                for n, value in enumerate(figures):
                    total[n] += value
        return Figures(*total)


#: By start of a coarse step, source and language: posts, positive, neutral, negative, toxic.
_Counts = dict[tuple[int, str, str], list[int]]


@dataclass(slots=True)
class _Count:
    """One query's counts of the posts with an id over `after` and up to `through`."""

    after: int
    through: int
    began_s: float
    counts: _Counts = field(default_factory=dict)
    #: By start alone: what is asked for most.
    every: dict[int, list[int]] = field(default_factory=dict)

    def add(self, rows: Sequence[tuple[int, str, str, str, str]]) -> None:
        for posted_ms, source, language, sentiment, toxicity in rows:
            start = posted_ms // 1000 // COARSE_S * COARSE_S
            for counts in (
                self.counts.setdefault((start, source, language), [0] * 5),
                self.every.setdefault(start, [0] * 5),
            ):
                counts[0] += 1
                if place := _PLACES.get(sentiment):
                    counts[place] += 1
                counts[4] += toxicity not in ("", "none")

    def within(self, scope: Scope) -> Iterator[tuple[int, list[int]]]:
        """(start, counts) of a scope, a start several times where there are several groups."""
        if scope == EVERYTHING:
            yield from self.every.items()
            return
        for (start, source, language), counts in self.counts.items():
            if (not scope.sources or source in scope.sources) and (
                not scope.languages or language in scope.languages
            ):
                yield start, counts


class TopicCounts:
    """Counts for one read model, for all browsers, one chunk after the other.

    Args:
        at: the read model.
    """

    def __init__(self, at: ReadModelAt) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None
        self._wanted: list[Query] = []
        self._known: dict[Query, _Count] = {}
        #: Counts that will take the place of old ones when they are whole.
        self._fresh: dict[Query, _Count] = {}
        self._ends = (0, 0)

    def ask(self, queries: Sequence[Query]) -> None:
        """Count for these queries, and wait a moment for it."""
        with self._lock:
            self._wanted = list(dict.fromkeys(queries))
            for forgotten in self._known.keys() - set(self._wanted):
                del self._known[forgotten]
                self._fresh.pop(forgotten, None)
            if self._running is None or not self._running.is_alive():
                # Nobody waits for it when the process ends.
                self._running = threading.Thread(target=self._work, name="topics", daemon=True)
                self._running.start()
            running = self._running
        running.join(_PATIENCE_S)

    def known(self, query: Query, step_s: int, scope: Scope) -> Known:
        """What is known of a query by now, in steps that coarse ones make up."""
        found: dict[int, list[int]] = {}
        with self._lock:
            first, last = self._ends
            count = self._known.get(query)
            if count is None:
                return Known({}, 0, max(last - first, 1))
            for start, counts in count.within(scope):
                total = found.setdefault(start - start % step_s, [0] * 5)
                for n, value in enumerate(counts):
                    total[n] += value
            counted = min(count.through, last) - max(count.after, first)
        return Known({start: Figures(*n) for start, n in found.items()}, counted, last - first)

    def _work(self) -> None:
        """Count until nothing is left to be counted; what is newest comes first."""
        # A read model that cannot be read is what the rest of the page says.
        with suppress(ReadModelError):
            while self._a_chunk_each():
                pass

    def _a_chunk_each(self) -> bool:
        with self._lock:
            wanted = list(self._wanted)
        with open_reader(self._at, kept=True) as reader:
            if reader is None:
                return False
            # Each for itself: of both at once SQLite reads the whole table.
            ends = reader.db.execute(
                "SELECT coalesce((SELECT min(id) FROM posts), 1) - 1,"
                " coalesce((SELECT max(id) FROM posts), 0)"
            ).fetchone()
            with self._lock:
                self._ends = (ends[0], ends[1])
            left = [self._a_chunk(reader.db, query, ends[0], ends[1]) for query in wanted]
        return any(left)

    def _a_chunk(self, db: Database, query: Query, first: int, last: int) -> bool:
        """Count some posts for a query; whether there are more."""
        now = time.monotonic()
        with self._lock:
            count = self._known.setdefault(query, _Count(last, last, now))
            if count.after <= first and now - count.began_s > _FRESH_S:
                count = self._fresh.setdefault(query, _Count(last, last, now))
        if count.through > last:  # another read model has taken the place of the one counted
            with self._lock:
                self._known[query] = _Count(last, last, now)
                self._fresh.pop(query, None)
            return True
        if count.through < last:
            after, through = count.through, min(count.through + _CHUNK, last)
        else:
            after, through = max(count.after - _CHUNK, first), count.after
        rows = posts_meant(db, query, after, through) if after < through else []
        with self._lock:
            count.add(rows)
            count.after, count.through = min(count.after, after), max(count.through, through)
            whole = count.after <= first and count.through >= last
            if whole and self._fresh.get(query) is count:
                self._known[query] = self._fresh.pop(query)
        return not whole
