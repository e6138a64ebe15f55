"""What the read model forgets besides posts and decisions, and what it keeps for ever.

Invariant: rollups by the hour and day, scores by the day and everything people did are kept; the
audit's chains begin later, with the hash that they go on from.
"""

from __future__ import annotations

from typing import Final

from dashboard.database import Database
from dashboard.rollup import hours_to_days

#: Fine rollups, latency and backlog history live this long; coarse rollups are kept.
FINE_RETENTION_S: Final = 26 * 3600
#: Scores by the hour; then they are put into their day, and kept.
SCORE_RETENTION_S: Final = 4 * 86_400
#: Windows of `metrics`.
MINUTES_RETENTION_S: Final = 2 * 86_400
HOURS_RETENTION_S: Final = 400 * 86_400
RETENTION_DEAD_LETTERS: Final = 10_000
RETENTION_DELIVERIES: Final = 50_000
#: More than any team could judge; the least severe and then the newest go.
RETENTION_QUEUE: Final = 100_000
_PRUNE_AUDIT: Final = 50_000
_RETENTION_NOTICES: Final = 100


def drop_old(db: Database, now_ms: int, most_audit: int) -> None:
    """Drop what is older, or more, than is kept; inside a transaction.

    Args:
        db: the read model.
        now_ms: the clock.
        most_audit: entries about decisions that the audit keeps.
    """
    now_s = now_ms // 1000
    for sql, kept_s in (
        ("DELETE FROM rollups WHERE width_s = 10 AND start_s < ?", FINE_RETENTION_S),
        ("DELETE FROM metrics WHERE width_s = 60 AND start_s < ?", MINUTES_RETENTION_S),
        ("DELETE FROM metrics WHERE width_s = 3600 AND start_s < ?", HOURS_RETENTION_S),
        ("DELETE FROM latency WHERE start_s < ?", FINE_RETENTION_S),
        ("DELETE FROM labelled WHERE second < ?", FINE_RETENTION_S),
        ("DELETE FROM backlog_history WHERE second < ?", FINE_RETENTION_S),
    ):
        db.execute(sql, (now_s - kept_s,))
    for table, key, order, kept in (
        ("dead_letters", "dead_letter_id", "at_ms DESC", RETENTION_DEAD_LETTERS),
        ("deliveries", "delivery_id", "at_ms DESC", RETENTION_DELIVERIES),
        ("notices", "at_ms", "at_ms DESC", _RETENTION_NOTICES),
        ("queue", "post_id", "severity DESC, since_ms DESC", RETENTION_QUEUE),
    ):
        _keep_newest(db, table, key, order, kept)
    hours_to_days(db, now_s - SCORE_RETENTION_S)
    _tidy_audit(db, most_audit)


def _keep_newest(db: Database, table: str, key: str, order: str, kept: int) -> None:
    (n,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  constants
    if n > kept:
        db.execute(
            f"DELETE FROM {table} WHERE {key} IN"  # noqa: S608  constants
            f" (SELECT {key} FROM {table} ORDER BY {order} LIMIT ? OFFSET ?)",
            (n - kept, kept),
        )


def _tidy_audit(db: Database, most: int) -> None:
    """The oldest entries about decisions go; a chain's new beginning is remembered."""
    heads = db.execute(
        "SELECT topic, partition, entries FROM audit_heads"
        " WHERE topic = 'decisions' OR topic LIKE 'decisions#%'"
    ).fetchall()
    held = sum(head[2] for head in heads)
    for topic, partition, entries in heads:
        surplus = min(entries - entries * most // max(held, 1), _PRUNE_AUDIT)
        if held <= most or surplus <= 0:
            continue
        last = db.execute(
            'SELECT "offset", hash FROM audit WHERE topic = ? AND partition = ?'
            ' ORDER BY "offset" LIMIT 1 OFFSET ?',
            (topic, partition, surplus - 1),
        ).fetchone()
        db.execute(
            'DELETE FROM audit WHERE topic = ? AND partition = ? AND "offset" <= ?',
            (topic, partition, last[0]),
        )
        db.execute(
            "UPDATE audit_heads SET entries = entries - ?, first_prev = ?, first_offset ="
            ' (SELECT coalesce(min("offset"), next_offset) FROM audit AS a'
            " WHERE a.topic = audit_heads.topic AND a.partition = audit_heads.partition)"
            " WHERE topic = ? AND partition = ?",
            (surplus, last[1], topic, partition),
        )
