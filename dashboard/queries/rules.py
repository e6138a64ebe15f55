"""What rules matched, hour by hour, and how often people agreed."""

from __future__ import annotations

from typing import NamedTuple

from dashboard.database import Database
from stream.decisions.precision import Precision


class RuleFigures(NamedTuple):
    """One rule, version and mode over a range; `precision` is over everything ever judged."""

    rule: str
    version: str
    mode: str
    matches: int
    last_match_s: int
    precision: Precision


class RuleHour(NamedTuple):
    """Matches of one hour; `start_s` since the epoch, by when the posts were posted."""

    start_s: int
    rule: str
    version: str
    mode: str
    matches: int


HOUR_S = 3600


def rule_figures(db: Database, from_s: int, to_s: int) -> list[RuleFigures]:
    """Every rule that ever matched, with its matches in the range; the busiest first."""
    rows = db.execute(
        "SELECT rule, version, mode,"
        " CAST(coalesce(sum(matches) FILTER (WHERE start_s >= ? AND start_s < ?), 0) AS BIGINT),"
        " coalesce(max(start_s) FILTER (WHERE matches > 0), 0),"
        " CAST(sum(judged) AS BIGINT), CAST(sum(upheld) AS BIGINT) FROM rule_rollups"
        " GROUP BY rule, version, mode ORDER BY 4 DESC, rule, version, mode",
        (from_s - from_s % HOUR_S, to_s),
    )
    return [RuleFigures._make((*row[:5], Precision(row[0], row[5], row[6]))) for row in rows]


def precisions(db: Database) -> dict[str, Precision]:
    """By rule, all versions and modes together."""
    rows = db.execute(
        "SELECT rule, CAST(sum(judged) AS BIGINT), CAST(sum(upheld) AS BIGINT) FROM rule_rollups"
        " GROUP BY rule"
    )
    return {row[0]: Precision(*row) for row in rows}


def rule_hours(db: Database, rule: str | None, from_s: int, to_s: int) -> list[RuleHour]:
    """Matches by hour of one rule or of all, empty hours left out."""
    where, values = ("rule = ? AND ", [rule]) if rule is not None else ("", [])
    rows = db.execute(
        f"SELECT start_s, rule, version, mode, matches FROM rule_rollups WHERE {where}"  # noqa: S608  constants
        "start_s >= ? AND start_s < ? AND matches > 0 ORDER BY start_s, rule, version, mode",
        [*values, from_s - from_s % HOUR_S, to_s],
    )
    return [RuleHour(*row) for row in rows]


def matched_posts(db: Database, rule: str, limit: int = 20) -> list[tuple[str, int, str, str]]:
    """(post, posted_ms, text, action) of the newest posts that a rule matched, live or shadow."""
    pattern = f'%["{rule}",%'
    return db.execute(
        "SELECT d.post_id, d.posted_ms, p.text, d.action FROM"
        " (SELECT * FROM decisions WHERE rules <> '' ORDER BY posted_ms DESC LIMIT 20000) AS d"
        " JOIN posts AS p ON p.post_id = d.post_id"
        " WHERE d.rules LIKE ? AND d.retracted = 0 ORDER BY d.posted_ms DESC LIMIT ?",
        (pattern, limit),
    ).fetchall()
