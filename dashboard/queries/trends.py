"""Trends: any metric over any range, with the period before it; groups, terms, tags, authors.

Invariant: a figure over a range and the figure over the period before are counted alike, from
the same kept rollups, over stretches of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from dashboard.database import Database
from dashboard.projection import COARSE_S
from dashboard.scope import EVERYTHING, Scope
from dashboard.stretches import KEPT_WIDTHS_S, counted, widths_within
from stream.aggregates.merge import Window, WindowKey, merged, window_of
from stream.aggregates.sketches import Ranked
from stream.outcomes import decode_metric

By = Literal["source", "language", "tag"]
Frequent = Literal["terms", "tags", "domains"]

#: Authors are counted among the newest this many posts of a range.
AUTHORS_OF: Final = 30_000
#: Windows of `metrics`: minutes up to this range, hours beyond it.
_MINUTES_UP_TO_S: Final = 3 * 3600
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_TOP: Final = 300


class Figures(NamedTuple):
    """Posts of a stretch of time (and of a group, where asked for one)."""

    posts: int
    positive: int
    neutral: int
    negative: int
    toxic: int

    @property
    def net_sentiment(self) -> float | None:
        """Positive less negative posts, as a share of those with a sentiment: -1 to 1."""
        judged = self.positive + self.neutral + self.negative
        return (self.positive - self.negative) / judged if judged else None

    @property
    def toxicity_rate(self) -> float | None:
        """The share of posts with any toxicity label: 0 to 1."""
        return self.toxic / self.posts if self.posts else None

    @property
    def negative_share(self) -> float | None:
        """The share of negative posts among those with a sentiment: 0 to 1."""
        judged = self.positive + self.neutral + self.negative
        return self.negative / judged if judged else None


NOTHING: Final = Figures(0, 0, 0, 0, 0)


class Step(NamedTuple):
    """One step of a series, beside the step as far into the period before."""

    start_s: int
    now: Figures
    before: Figures


class Group(NamedTuple):
    """A source, language or tag over a range and over the period before."""

    name: str
    now: Figures
    before: Figures


class Rising(NamedTuple):
    """A term, tag or domain: posts in the range and in the period before, scaled to its length.

    `lift` is how many times its share of all posts grew, drawn to 1 where there is little to go by.
    """

    name: str
    posts: int
    before: int
    lift: float


class TopAuthor(NamedTuple):
    """An author of the range."""

    author: str
    posts: int
    toxic: int


class ActionHour(NamedTuple):
    """Decisions by action, by when the posts were posted."""

    start_s: int
    action: str
    posts: int


def series(
    db: Database,
    from_s: int,
    to_s: int,
    step_s: int,
    *,
    scope: Scope = EVERYTHING,
    tag: str | None = None,
) -> list[Step]:
    """The range in steps, empty ones included, each with its step of the period before."""
    from_s -= from_s % step_s
    before_s = from_s - _steps(from_s, to_s, step_s) * step_s
    found = _counted(db, (before_s, to_s, step_s), scope, tag)
    return [
        Step(start, found.get(start, NOTHING), found.get(start - from_s + before_s, NOTHING))
        for start in range(from_s, to_s, step_s)
    ]


def comparison(
    db: Database, from_s: int, to_s: int, *, scope: Scope = EVERYTHING
) -> tuple[Figures, Figures]:
    """The range, and the period of the same length before it."""
    from_s -= from_s % COARSE_S
    before_s = from_s - _steps(from_s, to_s, COARSE_S) * COARSE_S
    return _all(db, from_s, to_s, scope), _all(db, before_s, from_s, scope)


def groups(
    db: Database, by: By, from_s: int, to_s: int, *, scope: Scope = EVERYTHING, limit: int = 50
) -> list[Group]:
    """The groups of the range, the busiest first."""
    length = to_s - from_s
    now = _by_group(db, by, from_s, to_s, scope)
    before = _by_group(db, by, from_s - length, from_s, scope)
    names = sorted({**now, **before}, key=lambda n: (-now.get(n, NOTHING).posts, n))
    return [Group(n, now.get(n, NOTHING), before.get(n, NOTHING)) for n in names[:limit]]


def rising(
    db: Database, what: Frequent, from_s: int, to_s: int, *, limit: int = 20, least: int = 3
) -> list[Rising]:
    """What is said more than in the period before, the steepest first; whole stream.

    From the frequent-items sketches of `metrics`: an item below their error is not seen.
    """
    length = to_s - from_s
    now, before = _window(db, from_s, to_s), _window(db, from_s - length, from_s)
    if now is None:
        return []
    now_top = {item.item: item.posts for item in _top(now, what)}
    before_top = {item.item: item.posts for item in _top(before, what)} if before else {}
    posts, posts_before = max(now.posts, 1), max(before.posts if before else 0, 1)
    found = []
    for name, count in now_top.items():
        scaled = before_top.get(name, 0) * posts / posts_before
        # Ten posts of "nothing has changed" on either side: three posts after none are no trend.
        lift = (count + 10) / (scaled + 10)
        if count >= least:
            found.append(Rising(name, count, round(scaled), lift))
    return sorted(found, key=lambda item: (-item.lift, -item.posts, item.name))[:limit]


def frequent(
    db: Database, what: Sequence[Frequent], from_s: int, to_s: int, limit: int = 20
) -> list[list[tuple[str, int]]]:
    """(name, posts) of the most frequent terms, tags or domains of the range; whole stream."""
    window = _window(db, from_s, to_s)
    return [
        [] if window is None else [(i.item, i.posts) for i in _top(window, each)[:limit]]
        for each in what
    ]


def top_authors(
    db: Database, from_s: int, to_s: int, *, scope: Scope = EVERYTHING, limit: int = 20
) -> list[TopAuthor]:
    """Who posted most, among the newest `AUTHORS_OF` posts of the range that the read model holds."""
    where, values = scope.where()
    rows = db.execute(
        "SELECT author, count(*), count(*) FILTER (WHERE toxicity NOT IN ('', 'none')) FROM"  # noqa: S608  placeholders only
        " (SELECT author, toxicity FROM posts WHERE posted_ms >= ? AND posted_ms < ?"
        f" AND author <> '' AND retracted = 0{where} ORDER BY posted_ms DESC LIMIT ?) AS newest"
        " GROUP BY author ORDER BY 2 DESC, 1 LIMIT ?",
        [from_s * 1000, to_s * 1000, *values, AUTHORS_OF, limit],
    )
    return [TopAuthor(*row) for row in rows]


def action_steps(
    db: Database, from_s: int, to_s: int, step_s: int, *, scope: Scope = EVERYTHING
) -> list[ActionHour]:
    """Decisions in force by action and step, empty steps left out."""
    where, values = scope.where()
    rows = db.execute(
        "SELECT start_s - start_s % ?, action, CAST(sum(posts) AS BIGINT) FROM action_rollups"  # noqa: S608  placeholders only
        f" WHERE start_s >= ? AND start_s < ?{where} GROUP BY 1, 2 ORDER BY 1, 2",
        [step_s, from_s - from_s % step_s, to_s, *values],
    )
    return [ActionHour(*row) for row in rows]


def _steps(from_s: int, to_s: int, step_s: int) -> int:
    return len(range(from_s, to_s, step_s))


_SUMS: Final = (
    "CAST(sum(posts) AS BIGINT),"
    " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'positive'), 0) AS BIGINT),"
    " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'neutral'), 0) AS BIGINT),"
    " CAST(coalesce(sum(posts) FILTER (WHERE sentiment = 'negative'), 0) AS BIGINT),"
    " CAST(coalesce(sum(posts) FILTER (WHERE toxicity NOT IN ('', 'none')), 0) AS BIGINT)"
)
_METRIC_SUMS: Final = (
    "CAST(sum(posts) AS BIGINT), CAST(sum(positive) AS BIGINT), CAST(sum(neutral) AS BIGINT),"
    " CAST(sum(negative) AS BIGINT), CAST(sum(toxic) AS BIGINT)"
)


def _counted(
    db: Database, steps: tuple[int, int, int], scope: Scope, tag: str | None
) -> dict[int, Figures]:
    from_s, to_s, step_s = steps
    if tag is not None:
        rows = db.execute(
            f"SELECT start_s - start_s % ?, {_METRIC_SUMS} FROM metrics WHERE width_s = ?"  # noqa: S608  constant
            " AND dimension = 'tag' AND name = ? AND start_s >= ? AND start_s < ? GROUP BY 1",
            (step_s, _MINUTE_S if step_s < _HOUR_S else _HOUR_S, tag, from_s, to_s),
        )
        return {row[0]: Figures(*row[1:]) for row in rows}
    rollups, values = counted(from_s, to_s, widths_within(step_s), scope)
    rows = db.execute(
        f"SELECT start_s - start_s % ?, {_SUMS} FROM {rollups} GROUP BY 1",  # noqa: S608  placeholders only
        [step_s, *values],
    )
    return {row[0]: Figures(*row[1:]) for row in rows}


def _by_group(db: Database, by: By, from_s: int, to_s: int, scope: Scope) -> dict[str, Figures]:
    if by == "tag":
        width = _MINUTE_S if to_s - from_s <= _MINUTES_UP_TO_S else _HOUR_S
        rows = db.execute(
            f"SELECT name, {_METRIC_SUMS} FROM metrics WHERE width_s = ? AND dimension = 'tag'"  # noqa: S608  constant
            " AND start_s >= ? AND start_s < ? GROUP BY name",
            (width, from_s - from_s % width, to_s),
        ).fetchall()
    else:
        rows = _summed(db, by, from_s, to_s, scope)
    return {row[0]: Figures(*row[1:]) for row in rows if row[0]}


def _all(db: Database, from_s: int, to_s: int, scope: Scope) -> Figures:
    (row,) = _summed(db, "'all'", from_s, to_s, scope) or [(None, *NOTHING)]
    return Figures(*row[1:])


def _summed(db: Database, by: str, from_s: int, to_s: int, scope: Scope) -> list[Any]:
    """Figures of a stretch by a column of the rollups, or by a constant."""
    rollups, values = counted(from_s, to_s, KEPT_WIDTHS_S, scope)
    return db.execute(
        f"SELECT {by}, {_SUMS} FROM {rollups} GROUP BY 1",  # noqa: S608  a literal of ours
        values,
    ).fetchall()


def _window(db: Database, from_s: int, to_s: int) -> Window | None:
    """All posts of a stretch, with its sketches."""
    width = _MINUTE_S if to_s - from_s <= _MINUTES_UP_TO_S else _HOUR_S
    parts: dict[int, list[bytes]] = {}
    for start, record in db.blobs(
        "SELECT start_s, record FROM metrics WHERE width_s = ? AND dimension = 'all' AND name = 'all'"
        " AND start_s >= ? AND start_s < ?",
        (width, from_s - from_s % width, to_s),
    ):
        parts.setdefault(start, []).append(record)
    return merged(
        window_of(WindowKey(start, width, "all", "all"), map(decode_metric, records))
        for start, records in parts.items()
    )


def _top(window: Window, what: Frequent) -> list[Ranked]:
    top = {"terms": window.top_terms, "tags": window.top_tags, "domains": window.top_domains}
    return top[what](_TOP)
