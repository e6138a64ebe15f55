"""Waves of abuse in a stretch of time: where the share of abusive posts leaves its usual level.

A reading aid for the chart, not an alert: nobody is called, and nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from dashboard.reader import Bucket

#: A bucket is hot at three times the median share, and never below this.
_FLOOR: Final = 0.12
_TIMES_USUAL: Final = 3.0
_FEWEST_IN_BUCKET: Final = 3
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
    for i, bucket in enumerate(buckets):
        if bucket.abusive < _FEWEST_IN_BUCKET or bucket.abusive / bucket.posts < hot_at:
            continue
        if runs and i - runs[-1][-1] <= _LULL_BUCKETS:
            runs[-1].append(i)
        else:
            runs.append([i])
    waves = []
    for run in runs:
        stretch = buckets[run[0] : run[-1] + 1]
        abusive = sum(bucket.abusive for bucket in stretch)
        if abusive >= _FEWEST_IN_WAVE:
            posts = sum(bucket.posts for bucket in stretch)
            waves.append(
                Wave(stretch[0].start_s, stretch[-1].start_s + step_s, posts, abusive, usual)
            )
    return waves
