"""A number over or under a bound: threshold rules, and pipeline rules, which are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stream.aggregates.merge import ALL, Window, merged
from stream.alerts.reading import Reading
from stream.alerts.rules import Measure, PipelineRule, RuleBase, ThresholdRule
from stream.alerts.store import Store
from stream.outcomes import STRONG_ACTIONS


def present(rule: RuleBase, windows: Store, tick: int) -> list[str]:
    """The groups the rule concerns that have a window in its span, sorted."""
    found = windows.groups_since(rule.width_s, rule.by, tick - rule.window_s)
    return sorted(group for group in found if rule.concerns(group))


def span(rule: RuleBase, windows: Store, group: str, tick: int) -> Window | None:
    """The group's windows of the rule's span up to `tick`, as one."""
    return merged(
        windows.series(rule.width_s, rule.by, group, since=tick - rule.window_s, until=tick)
    )


def threshold_readings(
    rule: ThresholdRule, windows: Store, tick: int, active: Iterable[str]
) -> dict[str, Reading]:
    """Every group that is there, is in an episode, or is named and must not be under a bound."""
    groups = {*present(rule, windows, tick), *active}
    if rule.under is not None and rule.measure in (Measure.POSTS, Measure.AUTHORS):
        groups |= rule.only or ({ALL} if rule.by == ALL else set())
    return {group: _reading(rule, span(rule, windows, group, tick)) for group in groups}


def _reading(rule: ThresholdRule, window: Window | None) -> Reading:
    value = 0.0 if window is None else measured(rule.measure, window)
    bound = rule.over if rule.over is not None else rule.under
    assert bound is not None
    posts = window.posts if window else 0
    if value is None or (window is None and rule.under is None) or posts < rule.min_posts:
        return Reading(breach=False, clear=True, threshold=bound, posts=posts, window=window)
    over = rule.over is not None
    beyond = value > bound if over else value < bound
    back = value <= rule.resolve_at if over else value >= rule.resolve_at
    if (beyond or not back) and rule.min_count and _count(rule.measure, window) < rule.min_count:
        beyond, back = False, True
    authors: int | None = None
    # Merging sketches is what costs here: only where it can matter.
    if window is not None and (beyond or not back):
        authors = window.authors.estimate
        if authors < rule.min_authors:
            beyond, back = False, True
    return Reading(
        breach=beyond,
        clear=back,
        observed=round(value, 4),
        threshold=bound,
        posts=posts,
        authors=authors,
        strength=value if over else -value,
        window=window,
    )


def measured(measure: Measure, window: Window) -> float | None:
    """What a rule's measure is in a window; None: a share of nothing."""
    return _VALUES[measure](window)


def _negative_rate(window: Window) -> float | None:
    judged = window.positive + window.neutral + window.negative
    return window.negative / judged if judged else None


def _strong_action_rate(window: Window) -> float | None:
    decided = sum(window.actions.values())
    return _strong(window) / decided if decided else None


def _posts_per_author(window: Window) -> float | None:
    authors = window.authors.estimate
    return window.posts / authors if authors else None


_VALUES: Final[Mapping[Measure, Callable[[Window], float | None]]] = {
    Measure.POSTS: lambda window: float(window.posts),
    Measure.AUTHORS: lambda window: float(window.authors.estimate),
    Measure.TOXIC: lambda window: float(window.toxic),
    Measure.TOXICITY_RATE: lambda window: window.toxicity_rate,
    Measure.NEGATIVE_RATE: _negative_rate,
    Measure.NET_SENTIMENT: lambda window: window.net_sentiment,
    Measure.UNSUPPORTED_RATE: lambda window: window.unsupported_rate,
    Measure.STRONG_ACTION_RATE: _strong_action_rate,
    Measure.POSTS_PER_AUTHOR: _posts_per_author,
}


def _count(measure: Measure, window: Window | None) -> int:
    """How many posts a share is made of."""
    if window is None:
        return 0
    match measure:
        case Measure.TOXIC | Measure.TOXICITY_RATE:
            return window.toxic
        case Measure.NEGATIVE_RATE | Measure.NET_SENTIMENT:
            return window.negative
        case Measure.UNSUPPORTED_RATE:
            return window.unsupported
        case Measure.STRONG_ACTION_RATE:
            return _strong(window)
        case _:
            return window.posts


def _strong(window: Window) -> int:
    return sum(window.actions.get(action, 0) for action in STRONG_ACTIONS)


def pipeline_readings(
    rule: PipelineRule, observed: Mapping[str, float], active: Iterable[str]
) -> dict[str, Reading]:
    """The parts of the pipeline that were looked at; one that was not stays as it is.

    Args:
        rule: the rule.
        observed: by part (a consumer group, a quota) the newest value of the rule's measure.
        active: parts in an episode.
    """
    found = {part: value for part, value in observed.items() if rule.concerns(part)}
    readings = {
        part: Reading(
            breach=value > rule.over,
            clear=value <= rule.resolve_at,
            observed=round(value, 4),
            threshold=rule.over,
            strength=value,
        )
        for part, value in found.items()
    }
    unknown = Reading(breach=False, clear=False, threshold=rule.over)
    return {**dict.fromkeys(active, unknown), **readings}
