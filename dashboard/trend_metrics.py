"""What can be looked at over a period: each metric's value, its change, and who brought it about.

Invariant: the parts of a change that are told by group add up to the change itself, so that a
sentence on what moved a figure never claims more than happened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from dashboard.queries.trends import NOTHING, Figures, Group


@dataclass(frozen=True, slots=True)
class TrendMetric:
    """A metric: how it is read from figures, its unit, and which way is good (None: neither)."""

    name: str
    icon: str
    title: str
    kind: Literal["count", "share", "points"]
    value: Callable[[Figures], float | None]
    #: What of a group's posts counts, and of how many.
    counted: Callable[[Figures], int]
    of: Callable[[Figures], int]
    good: Literal["up", "down"] | None
    help: str


def _judged(figures: Figures) -> int:
    return figures.positive + figures.neutral + figures.negative


METRICS: Final = {
    metric.name: metric
    for metric in (
        TrendMetric(
            "Volume", "forum", "posts", "count",
            lambda f: float(f.posts), lambda f: f.posts, lambda _: 1, None,
            "Posts of the period, by when they were posted.",
        ),
        TrendMetric(
            "Net sentiment", "mood", "points of 100", "points",
            lambda f: f.net_sentiment, lambda f: f.positive - f.negative, _judged, "up",
            "Positive less negative posts, of a hundred with a sentiment.",
        ),
        TrendMetric(
            "Toxicity", "report", "of posts", "share",
            lambda f: f.toxicity_rate, lambda f: f.toxic, lambda f: f.posts, "down",
            "Posts with any toxicity label, as a share of all.",
        ),
        TrendMetric(
            "Negative", "sentiment_dissatisfied", "of posts with a sentiment", "share",
            lambda f: f.negative_share, lambda f: f.negative, _judged, "down",
            "Negative posts as a share of those with a sentiment.",
        ),
    )
}  # fmt: skip


class Part(NamedTuple):
    """What one group added to the change of a metric, in the metric's own unit."""

    name: str
    part: float


def change(metric: TrendMetric, now: Figures, before: Figures) -> float | None:
    """How much the metric changed: relative for a count, in its unit otherwise; None: unknown."""
    new, old = metric.value(now), metric.value(before)
    if new is None or old is None:
        return None
    if metric.kind == "count":
        return (new - old) / old if old else None
    return new - old


def parts(metric: TrendMetric, groups: Sequence[Group]) -> list[Part]:
    """What each group added to the change, the largest first; [] where nothing was before."""
    now = _sum([group.now for group in groups])
    before = _sum([group.before for group in groups])
    if not before.posts or not now.posts:
        return []
    if metric.kind == "count":
        found = [Part(g.name, (g.now.posts - g.before.posts) / before.posts) for g in groups]
    else:
        of_now, of_before = metric.of(now) or 1, metric.of(before) or 1
        found = [
            Part(g.name, metric.counted(g.now) / of_now - metric.counted(g.before) / of_before)
            for g in groups
        ]
    return sorted(found, key=lambda part: (-abs(part.part), part.name))


def shown(metric: TrendMetric, value: float | None) -> str:
    """A value in words."""
    if value is None:
        return "–"
    if metric.kind == "count":
        return f"{value:,.0f}"
    return f"{value * 100:+.1f}" if metric.kind == "points" else f"{value:.1%}"


def shown_change(metric: TrendMetric, value: float) -> str:
    """A change in words, with its unit."""
    return f"{value:+.1%}" if metric.kind == "count" else f"{value * 100:+.1f} points"


def _sum(figures: Sequence[Figures]) -> Figures:
    return Figures(*(sum(column) for column in zip(*figures, strict=True))) if figures else NOTHING
