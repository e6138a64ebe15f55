"""The numbers at the top of the Live page: pure, from a reader and a moment.

Rates, latency and backlog are of the whole stream, whatever the page's scope; shares are of the
scope and the range, and compared with the range of the same length before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dashboard.projection import FINE_S
from dashboard.reader import Bucket, Reader, percentile_ms
from dashboard.scope import Scope

#: Label of a range to (seconds it covers, seconds a bucket).
RANGES: Final = {
    "5 min": (300, 10),
    "15 min": (900, 10),
    "1 h": (3600, 60),
    "6 h": (6 * 3600, 300),
    "24 h": (24 * 3600, 900),
}
_RATE_OVER_S: Final = 10
_LATENCY_OVER_S: Final = 60
#: An older sample of the backlog says nothing of now.
_BACKLOG_AGE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of time ending now, cut into steps; the last one is still filling."""

    from_s: int
    to_s: int
    step_s: int


def stretch(range_name: str, now_ms: int) -> Stretch:
    """The range with this name, up to now."""
    length, step = RANGES[range_name]
    to_s = now_ms // 1000 // step * step + step
    return Stretch(to_s - length, to_s, step)


@dataclass(frozen=True, slots=True)
class Figures:
    """One reading of everything; None where there is nothing to say."""

    posts_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    backlog: int | None
    posts: int
    abusive_share: float | None
    abusive_share_before: float | None
    net_sentiment: float | None
    net_sentiment_before: float | None


def figures(reader: Reader, scope: Scope, stretch: Stretch, now_ms: int) -> Figures:
    """Read the figures of a range, as of `now_ms`."""
    now_s = now_ms // 1000
    per_second = reader.labelled(now_s - _RATE_OVER_S, now_s, 1)[-_RATE_OVER_S:]
    recent = _merged(reader.latency(now_s - _LATENCY_OVER_S - FINE_S, now_s + 1).values())
    history = reader.backlog_history(now_s - _BACKLOG_AGE_S)
    now = reader.total(scope, stretch.from_s, stretch.to_s)
    length = stretch.to_s - stretch.from_s
    before = reader.total(scope, stretch.from_s - length, stretch.from_s)
    return Figures(
        posts_per_s=sum(n for _, n in per_second) / _RATE_OVER_S,
        p50_ms=percentile_ms(recent, 0.5),
        p95_ms=percentile_ms(recent, 0.95),
        backlog=history[-1][1] if history else None,
        posts=now.posts,
        abusive_share=abusive_share([now]),
        abusive_share_before=abusive_share([before]),
        net_sentiment=net_sentiment([now]),
        net_sentiment_before=net_sentiment([before]),
    )


def abusive_share(buckets: Sequence[Bucket]) -> float | None:
    """The share of posts with any toxicity label."""
    posts = sum(bucket.posts for bucket in buckets)
    return sum(bucket.abusive for bucket in buckets) / posts if posts else None


def net_sentiment(buckets: Sequence[Bucket]) -> float | None:
    """Positive less negative posts as a share of all with a sentiment: -1 to 1."""
    total = sum(bucket.negative + bucket.neutral + bucket.positive for bucket in buckets)
    return sum(bucket.positive - bucket.negative for bucket in buckets) / total if total else None


def _merged(histograms: Iterable[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    total: Counter[int] = Counter()
    for histogram in histograms:
        for bin_, posts in histogram:
            total[bin_] += posts
    return sorted(total.items())
