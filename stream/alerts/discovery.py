"""Which of many unlikely counts are discoveries: the false-discovery rate over all series of a day.

Benjamini-Hochberg, and its family is a sliding day: the p-values of every series and window of
the last 24 hours, the present tick's among them. A p-value of the present tick is a discovery
if it is at most `level * k / m`, where m is how many tests a day has and k the largest number
of p-values of the day that lie at or under `level * k / m`. With nothing going on that is one
false alert in 1 / level days, however many series there are; and unlike a level that is spent
as time passes, it does not grow deaf with the time since the last discovery. That the share
holds is shown by simulation (tests/stream/alerts/test_discovery.py), because the windows of a
sliding family are not tested all at once, as the theorem asks.

Invariant: a series in an open episode is not tested, so that an episode is one discovery.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter
from typing import Final, TypeVar

import msgspec

_DAY_S: Final = 86_400
#: Larger p-values can only count where a fifth of all tests of a day are discoveries.
_KEPT_SHARE: Final = 0.2
_K = TypeVar("_K")


class Family(msgspec.Struct):
    """The tests of the last day: how many by tick, and those p-values that may count."""

    tests: list[tuple[int, int]] = msgspec.field(default_factory=list)
    small: list[tuple[int, float]] = msgspec.field(default_factory=list)

    def discoveries(
        self, tick: int, p_values: Mapping[_K, float], *, level: float, per_day: int
    ) -> set[_K]:
        """Which of this tick's p-values are discoveries; they then belong to the family.

        Args:
            tick: seconds since the epoch.
            p_values: by series.
            level: the share of false ones among the discoveries that is not to be exceeded.
            per_day: how many tests a whole day of these series has: the family is never smaller,
                or the first hours of a young family would be lenient.
        """
        over = tick - _DAY_S
        del self.tests[: bisect_right(self.tests, over, key=itemgetter(0))]
        del self.small[: bisect_right(self.small, over, key=itemgetter(0))]
        kept = level * _KEPT_SHARE
        if p_values:
            self.tests.append((tick, len(p_values)))
        self.small.extend(sorted((tick, p) for p in p_values.values() if p <= kept))
        if not any(p <= kept for p in p_values.values()):
            return set()
        number = max(per_day, sum(count for _, count in self.tests))
        bound = _bound(sorted(p for _, p in self.small), level, number)
        return {series for series, p in p_values.items() if p <= bound}


def _bound(ordered: list[float], level: float, number: int) -> float:
    """The largest p-value that Benjamini-Hochberg takes for a discovery; below 0: none."""
    for k in range(len(ordered), 0, -1):
        if ordered[k - 1] <= level * k / number:
            return level * k / number
    return -1.0
