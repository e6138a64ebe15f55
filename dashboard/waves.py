"""Waves of abuse in a stretch of time: where the share of abusive posts leaves its usual level.

A reading aid for the chart, not an alert: nobody is called, and nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from dashboard.reader import Bucket

#: A bucket is hot where it and its neighbours together reach twice the median share; never below this.
_FLOOR: Final = 0.12
_TIMES_USUAL: Final = 2.0
_FEWEST_AROUND: Final = 4
_FEWEST_IN_WAVE: Final = 8
#: A lull of this many buckets does not end a wave.
_LULL_BUCKETS: Final = 3


@dataclass(frozen=True, slots=True)
class Wave:
    """A stretch with far more abuse than usual; `usual` is the median share of the whole range."""

    from_s: int
    to_s: int
    posts: int
    abusive: int
    usual: float

    @property
    def share(self) -> float:
        """The share of abusive posts in the wave."""
        return self.abusive / self.posts


def find_waves(buckets: Sequence[Bucket], step_s: int) -> list[Wave]:
    """The waves in buckets that follow one another, oldest first."""
    shares = [bucket.abusive / bucket.posts for bucket in buckets if bucket.posts]
    if not shares:
        return []
    usual = median(shares)
    hot_at = max(_FLOOR, _TIMES_USUAL * usual)
    runs: list[list[int]] = []
    for i in range(len(buckets)):
        posts, abusive = _sums(buckets[max(i - 1, 0) : i + 2])
        if abusive < _FEWEST_AROUND or abusive < hot_at * posts:
            continue
        if runs and i - runs[-1][-1] <= _LULL_BUCKETS:
            runs[-1].append(i)
        else:
            runs.append([i])
    waves = []
    for run in runs:
        # A neighbour's heat made the edges hot: they go unless they are so themselves.
        own = [i for i in run if buckets[i].abusive > hot_at * buckets[i].posts]
        if not own:
            continue
        stretch = buckets[own[0] : own[-1] + 1]
        posts, abusive = _sums(stretch)
        if abusive >= max(_FEWEST_IN_WAVE, hot_at * posts):
            end_s = stretch[-1].start_s + step_s
            waves.append(Wave(stretch[0].start_s, end_s, posts, abusive, usual))
    return waves


def _sums(buckets: Sequence[Bucket]) -> tuple[int, int]:
    return sum(bucket.posts for bucket in buckets), sum(bucket.abusive for bucket in buckets)
