"""A count that is unlikely after what its series has taught.

What is counted are distinct authors, never posts: one person who posts a thousand times is one.
For toxicity, where a window does not say who wrote the toxic posts, these are scaled down by
authors per post, and compared with the authors there were.

Invariant: what a series teaches leaves out its own episodes, until there is nothing else left
(`level_s` later): then what goes on is the new level.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from stream.aggregates.merge import ALL, OTHER, Window
from stream.alerts.baseline import Baseline, fit, season
from stream.alerts.reading import Reading
from stream.alerts.rules import ChangeRule
from stream.alerts.store import Store
from stream.alerts.threshold import present, span

#: A level is learnt anew every so many windows: it does not move faster, and learning costs.
_REFIT_WINDOWS: Final = 5
_HOUR_S: Final = 3600
#: Hours of past weeks that are kept, and below which mean count an hour has no season to tell.
SEASON_HOURS: Final = 5 * 168
_LEAST_MEAN: Final = 1.0


class Counted(msgspec.Struct, array_like=True):
    """One window that was not empty. `taught` is False for windows of an episode."""

    tick: int
    count: int
    exposure: int
    taught: bool = True


class Series(msgspec.Struct, array_like=True):
    """What one group has shown: its windows that were not empty, and the level they give."""

    counted: list[Counted] = msgspec.field(default_factory=list)
    level: float = 0.0
    dispersion: float = 0.0
    windows: int = 0
    season: float = 1.0
    fitted: int | None = None


class Learnt(msgspec.Struct):
    """What a change rule has learnt: its series, and in which ticks there were posts at all."""

    series: dict[str, Series] = msgspec.field(default_factory=dict)
    alive: list[int] = msgspec.field(default_factory=list)


#: Mean counts by hour since the epoch and group: what seasons are made of.
Hours = dict[int, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one group shows at a tick, and how likely that is; `p` None: too little is known."""

    count: int
    expected: float
    p: float | None
    window: Window | None

    def reading(self, rule: ChangeRule, *, discovered: bool, active: bool) -> Reading:
        """As the common form: a discovery breaches, and clears half-way back to the expected."""
        half = 1.0 + (rule.effect - 1.0) / 2.0
        high = rule.direction != "down" and self.count > self.expected * half
        low = rule.direction != "up" and self.count < self.expected / half
        ratio = (self.count + 1.0) / (self.expected + 1.0)
        return Reading(
            breach=discovered or (active and (high or low)),
            clear=not discovered and not high and not low,
            observed=float(self.count),
            expected=round(self.expected, 1),
            posts=self.window.posts if self.window else 0,
            authors=self.window.authors.estimate if self.window else 0,
            strength=max(ratio, 1.0 / ratio),
            window=self.window,
        )


def candidates(
    rule: ChangeRule,
    windows: Store,
    tick: int,
    learnt: Learnt,
    *,
    hours: Hours,
    active: Container[str],
) -> dict[str, Candidate]:
    """Every series of the rule at `tick`; nothing where there was no post at all.

    A series that was never seen before has shown zeros for as long as anybody looked.
    """
    if not windows.series(rule.width_s, ALL, ALL, since=tick - rule.window_s, until=tick):
        return {}
    _age(rule, learnt, tick)
    found = {}
    for group in {*learnt.series, *present(rule, windows, tick)} - {OTHER}:
        window = span(rule, windows, group, tick)
        count, exposure = _counted(rule, window)
        series = learnt.series.setdefault(group, Series())
        _fit(rule, learnt, series, tick, own=_own(hours, group))
        base = Baseline(series.level, series.dispersion, series.windows)
        expected = base.expected(float(exposure), series.season)
        known = len(learnt.alive) * rule.window_s >= rule.history_s and series.windows > 0
        p = None if not known or group in active else _p(rule, base, count, exposure, expected)
        found[group] = Candidate(count, expected, p, window)
    return found


def learn(
    rule: ChangeRule, learnt: Learnt, tick: int, seen: dict[str, Candidate], apart: Container[str]
) -> None:
    """Add the tick to what is known; the groups `apart` are in an episode."""
    if not seen:
        return
    learnt.alive.append(tick)
    for group, candidate in seen.items():
        _, exposure = _counted(rule, candidate.window)
        if candidate.count or (rule.measure == "toxic" and exposure):
            learnt.series[group].counted.append(
                Counted(tick, candidate.count, exposure, group not in apart)
            )


def finished_hour(rule: ChangeRule, learnt: Learnt, tick: int) -> dict[str, float]:
    """The mean of each series in the hour that ends at `tick`, of those that had any to speak of."""
    ticks = sum(tick - _HOUR_S < each <= tick for each in learnt.alive)
    means = {}
    for group, series in learnt.series.items():
        own = [c for c in series.counted if c.tick > tick - _HOUR_S and c.taught]
        total = sum(c.exposure for c in own) if rule.measure == "toxic" else ticks
        mean = sum(c.count for c in own) / total if total else 0.0
        if own and (mean >= _LEAST_MEAN or rule.measure == "toxic"):
            means[group] = round(mean, 4)
    return means


def _counted(rule: ChangeRule, window: Window | None) -> tuple[int, int]:
    """Count and exposure of a window."""
    if window is None or window.posts <= 0:
        return 0, 0 if rule.measure == "toxic" else 1
    # There are no more authors than posts, whatever a sketch estimates.
    authors = min(window.authors.estimate, window.posts) or window.posts
    if rule.measure == "authors":
        return authors, 1
    return int(window.toxic * authors / window.posts), authors


def _p(rule: ChangeRule, base: Baseline, count: int, exposure: int, expected: float) -> float:
    """How likely a count as far off is. One too small to matter is not, whatever its chance."""
    low, high = base.tails(count, expected)
    enough = (
        count >= rule.min_authors if rule.measure == "authors" else exposure >= rule.min_authors
    )
    up = high if enough and count >= rule.effect * expected else 1.0
    down = low if expected >= rule.min_authors and count * rule.effect <= expected else 1.0
    match rule.direction:
        case "up":
            return up
        case "down":
            return down
        case "both":
            return min(1.0, 2.0 * min(up, down))


def _age(rule: ChangeRule, learnt: Learnt, tick: int) -> None:
    since = tick - rule.level_s
    del learnt.alive[: bisect_right(learnt.alive, since)]
    for group, series in list(learnt.series.items()):
        del series.counted[: bisect_right(series.counted, since, key=attrgetter("tick"))]
        if not series.counted:
            del learnt.series[group]


def _own(hours: Hours, group: str) -> Callable[[], dict[int, float]]:
    """The past hours of one series, looked for when they are needed."""
    return lambda: {hour: means[group] for hour, means in hours.items() if group in means}


def _fit(
    rule: ChangeRule,
    learnt: Learnt,
    series: Series,
    tick: int,
    *,
    own: Callable[[], dict[int, float]],
) -> None:
    if series.fitted is not None and (tick - series.fitted < _REFIT_WINDOWS * rule.window_s):
        return
    taught = [c for c in series.counted if c.taught]
    apart = len(series.counted) - len(taught)
    if (len(learnt.alive) - apart) * rule.window_s < rule.history_s:
        taught, apart = list(series.counted), 0
    empty = 0 if rule.measure == "toxic" else len(learnt.alive) - apart - len(taught)
    counts = np.array([c.count for c in taught] + [0] * empty, dtype=np.float64)
    exposures = np.array([c.exposure for c in taught] + [1] * empty, dtype=np.float64)
    base = fit(counts, exposures)
    series.level, series.dispersion, series.windows = base.level, base.dispersion, base.windows
    series.fitted = tick
    first, now = (tick - rule.level_s) // _HOUR_S, (tick - 1) // _HOUR_S
    before = {hour: mean for hour, mean in own().items() if hour < first}
    series.season = season(before, now, list(range(first, now + 1)))
