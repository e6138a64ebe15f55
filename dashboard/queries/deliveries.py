"""The hooks' delivery log."""

from __future__ import annotations

from typing import NamedTuple

from dashboard.database import Database
from dashboard.outcome_rows import DeliveryRow


class TargetFigures(NamedTuple):
    """What became of a target's deliveries in a range."""

    target: str
    delivered: int
    retrying: int
    failed: int
    dropped: int
    last_ms: int


def deliveries(
    db: Database, *, targets: tuple[str, ...] = (), states: tuple[str, ...] = (), limit: int = 200
) -> list[DeliveryRow]:
    """The newest attempts."""
    sql, values = "", list[object]()
    for column, wanted in (("target", targets), ("state", states)):
        if wanted:
            sql += f" AND {column} IN ({', '.join('?' * len(wanted))})"
            values += wanted
    rows = db.execute(
        f"SELECT * FROM deliveries WHERE 1 = 1{sql} ORDER BY at_ms DESC, attempt DESC, delivery_id LIMIT ?",  # noqa: S608  placeholders only
        [*values, limit],
    )
    return [DeliveryRow(*row) for row in rows]


def target_figures(db: Database, from_ms: int, to_ms: int) -> list[TargetFigures]:
    """By target, the attempts of a range by outcome."""
    rows = db.execute(
        "SELECT target, count(*) FILTER (WHERE state = 'delivered'),"
        " count(*) FILTER (WHERE state = 'retrying'), count(*) FILTER (WHERE state = 'failed'),"
        " count(*) FILTER (WHERE state = 'dropped'), max(at_ms) FROM deliveries"
        " WHERE at_ms >= ? AND at_ms < ? GROUP BY target ORDER BY target",
        (from_ms, to_ms),
    )
    return [TargetFigures(*row) for row in rows]
