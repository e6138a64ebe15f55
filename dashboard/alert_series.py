"""The series that made an alert fire, from the metrics the read model holds.

Invariant: a point is what the rule itself would have read at that time: the same measure over the
rule's own window, so that the line crosses the threshold where the alert says it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from dashboard.database import Database
from dashboard.outcome_rows import METRIC_WIDTHS_S
from dashboard.projection import COARSE_S, FINE_S
from stream.aggregates.merge import ALL, OTHER, Window, WindowKey
from stream.alerts.reading import SEVERAL
from stream.alerts.rules import Measure, Rule
from stream.alerts.threshold import measured
from stream.outcomes import Alert, decode_metric

#: Points of a chart, about.
_POINTS: Final = 120
_LEAST_S: Final = 900


class Series(NamedTuple):
    """Values by time; `unit` as the alert's numbers. `why_not` where there is nothing to draw."""

    points: list[tuple[int, float]]
    unit: str
    what: str
    window_s: int
    why_not: str = ""


def stretch_of(started_s: int, ended_s: int) -> tuple[int, int]:
    """What a chart of an episode shows: as long before it as it lasts, and some of what followed."""
    length = max(ended_s - started_s, _LEAST_S)
    return started_s - length, ended_s + length // 4


def series_of(db: Database, alert: Alert, rule: Rule | None, from_s: int, to_s: int) -> Series:
    """The series behind an alert.

    Args:
        db: the read model.
        alert: the episode.
        rule: as it stands in the file of alert rules now; None: it is not there any more.
        from_s: begin.
        to_s: end.
    """
    window_s = alert.window_s or (rule.window_s if rule else 60)
    unit = alert.unit or "posts"
    if alert.kind == "pipeline":
        return Series([], unit, "", window_s, "What the pipeline rules look at is not kept.")
    by, group = next(iter(alert.group.items()), (ALL, ALL))
    if group in (SEVERAL, OTHER):
        return Series([], unit, "", window_s, "The alert speaks for several groups at once.")
    if by in ("source", "language"):
        windows, width = _from_rollups(db, by, group, from_s - window_s, to_s)
    elif by in (ALL, "tag"):
        windows, width = _from_metrics(db, by, group, from_s - window_s, to_s)
    else:
        return Series([], unit, "", window_s, f"Counts by {by} are not kept.")
    if not windows:
        return Series([], unit, "", window_s, "The counts of that time are not kept any more.")
    measure, what = _measure(alert, rule, sketched=by == ALL)
    span_s = max(window_s // width * width, width)
    step = max((to_s - from_s) // _POINTS // width * width, width)
    points = []
    for end in range(from_s - from_s % width + step, to_s + 1, step):
        together = merged_counts(
            [windows[s] for s in range(end - span_s, end, width) if s in windows]
        )
        value = 0.0 if together is None else measure(together)
        if value is not None:
            points.append((end, value))
    return Series(points, unit, what, span_s)


def merged_counts(windows: list[Window]) -> Window | None:
    """Windows of one group as one; unlike `merge.merged` also those without their parts."""
    if not windows:
        return None
    first = windows[0]
    return Window(
        first.key,
        posts=sum(window.posts for window in windows),
        positive=sum(window.positive for window in windows),
        neutral=sum(window.neutral for window in windows),
        negative=sum(window.negative for window in windows),
        toxic=sum(window.toxic for window in windows),
        unsupported=sum(window.unsupported for window in windows),
        parts=tuple(part for window in windows for part in window.parts),
    )


def _measure(
    alert: Alert, rule: Rule | None, *, sketched: bool
) -> tuple[Callable[[Window], float | None], str]:
    """What the rule reads off a window, and its name; authors are counted for the whole stream only."""
    measure = _UNIT_MEASURES.get(alert.unit or "", Measure.POSTS)
    if rule is not None and rule.kind == "threshold":
        measure = rule.measure
    if measure in _SKETCHED and not sketched:
        return (lambda window: float(window.posts)), "posts (authors are not kept here)"
    return (lambda window: measured(measure, window)), _WORDS[measure]


#: What the rules that are no thresholds look at, by the unit of their alerts.
_UNIT_MEASURES: Final = {
    "share": Measure.TOXICITY_RATE,
    "toxic authors": Measure.TOXIC,
    "authors": Measure.AUTHORS,
}
_SKETCHED: Final = frozenset({Measure.AUTHORS, Measure.POSTS_PER_AUTHOR})
_WORDS: Final[Mapping[Measure, str]] = {
    Measure.POSTS: "posts",
    Measure.AUTHORS: "authors",
    Measure.TOXIC: "toxic posts",
    Measure.TOXICITY_RATE: "toxicity rate",
    Measure.NEGATIVE_RATE: "share of negative posts",
    Measure.NET_SENTIMENT: "net sentiment",
    Measure.UNSUPPORTED_RATE: "share in unknown languages",
    Measure.STRONG_ACTION_RATE: "share limited, hidden or removed",
    Measure.POSTS_PER_AUTHOR: "posts per author",
}


def _from_metrics(
    db: Database, by: str, group: str, from_s: int, to_s: int
) -> tuple[dict[int, Window], int]:
    """By start, of the whole stream (with its sketches) or of a tag."""
    width = METRIC_WIDTHS_S[0]
    found: dict[int, list[Window]] = {}
    for start, posts, positive, neutral, negative, toxic, record in db.execute(
        "SELECT start_s, posts, positive, neutral, negative, toxic, record FROM metrics"
        " WHERE width_s = ? AND dimension = ? AND name = ? AND start_s >= ? AND start_s < ?",
        (width, by, group, from_s - from_s % width, to_s),
    ):
        key = WindowKey(start, width, by, group)  # type: ignore[arg-type] # one of two
        part = decode_metric(record) if record else None
        window = Window(
            key, posts, positive, neutral, negative, toxic,
            unsupported=part.unsupported if part else 0, parts=(part,) if part else (),
        )  # fmt: skip
        found.setdefault(start, []).append(window)
    return _by_start(found), width


def _from_rollups(
    db: Database, by: str, group: str, from_s: int, to_s: int
) -> tuple[dict[int, Window], int]:
    """By start, of a source or a language; in fine steps as far as they are kept."""
    assert by in ("source", "language")
    for width in (FINE_S, COARSE_S):
        rows = db.execute(
            "SELECT start_s, CAST(sum(posts) AS BIGINT),"  # noqa: S608 - one of two columns
            " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'positive'), 0) AS BIGINT),"
            " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'neutral'), 0) AS BIGINT),"
            " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'negative'), 0) AS BIGINT),"
            " CAST(coalesce(sum(posts) FILTER (WHERE toxicity NOT IN ('', 'none')), 0) AS BIGINT)"
            f" FROM rollups WHERE width_s = ? AND start_s >= ? AND start_s < ? AND {by} = ?"
            " GROUP BY start_s",
            (width, from_s - from_s % width, to_s, group),
        ).fetchall()
        if rows:
            break
    return {
        row[0]: Window(WindowKey(row[0], width, by, group), *row[1:])  # type: ignore[arg-type] # one of two
        for row in rows
    }, width


def _by_start(found: dict[int, list[Window]]) -> dict[int, Window]:
    return {
        start: window
        for start, parts in found.items()
        if (window := merged_counts(parts)) is not None
    }
