"""Who has been answered: every place that was posted to against the labels and dead letters seen.

Pure. The invariant: `posted` is at all times `labelled` + `dead_lettered` + `outstanding`. Matching
is by place (partition and offset), so that two posts with one id are two posts, and a label made
twice after a crash is one label and one duplicate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

Place = tuple[int, int]

#: Answers to places that nobody has told us about yet; others' posts are among them on a broker
#: that others use too, so it is bounded and the oldest are forgotten.
_MOST_EARLY: Final = 200_000


class Answer(Enum):
    """What became of a post."""

    LABEL = "label"
    DEAD_LETTER = "dead letter"


class Spans:
    """A set of offsets that grows mostly at its end."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add the offsets from `start` to before `end`; they are not in the set yet."""
        at = bisect_right(self._starts, start)
        if at and self._ends[at - 1] == start:
            self._ends[at - 1] = end
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset)
        return at > 0 and offset < self._ends[at - 1]


class Account:
    """The account of one run.

    Args:
        on_answer: is told the seconds from posting to the answer, once for each post.
    """

    def __init__(self, on_answer: Callable[[float], None] | None = None) -> None:
        self.posted = 0
        self.labelled = 0
        self.dead_lettered = 0
        self.duplicates = 0
        self._on_answer = on_answer
        self._outstanding: dict[Place, float] = {}
        self._ours: dict[int, Spans] = {}
        self._early: OrderedDict[Place, list[tuple[Answer, float]]] = OrderedDict()

    @property
    def outstanding(self) -> int:
        """Posts without an answer."""
        return len(self._outstanding)

    @property
    def answered(self) -> int:
        """Posts with one."""
        return self.labelled + self.dead_lettered

    def post(self, partition: int, offset: int, records: int, at_s: float) -> None:
        """The broker has `records` of ours from `offset` on, sent at `at_s`."""
        self.posted += records
        self._ours.setdefault(partition, Spans()).add(offset, offset + records)
        for place in ((partition, offset + n) for n in range(records)):
            self._outstanding[place] = at_s
            # The worker may be faster than the broker's confirmation is in reaching us.
            for answer, answered_at_s in self._early.pop(place, ()):
                self.answer(*place, answer, answered_at_s)

    def refuse(self, records: int) -> None:
        """`records` lines went to the dead letters without having been posted."""
        self.posted += records
        self.dead_lettered += records

    def answer(self, partition: int, offset: int, answer: Answer, at_s: float) -> None:
        """A label or dead letter for a place was seen; it may be anybody's."""
        place = (partition, offset)
        sent_at_s = self._outstanding.pop(place, None)
        if sent_at_s is not None:
            if answer is Answer.LABEL:
                self.labelled += 1
            else:
                self.dead_lettered += 1
            if self._on_answer is not None:
                self._on_answer(max(0.0, at_s - sent_at_s))
        elif offset in self._ours.get(partition, ()):
            self.duplicates += 1
        else:
            self._early.setdefault(place, []).append((answer, at_s))
            if len(self._early) > _MOST_EARLY:
                self._early.popitem(last=False)

    def oldest(self, count: int) -> list[Place]:
        """Some of the places that wait for an answer, oldest first."""
        return [place for place, _ in zip(self._outstanding, range(count), strict=False)]


def percentiles_ms(latencies_s: Sequence[float]) -> dict[str, float] | None:
    """p50, p95 and p99 in milliseconds, nearest rank; None where there are none."""
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    ranks = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000, 1)
        for name, part in ranks.items()
    }
