"""The review queue: what waits for a person, the most severe and then the oldest first."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from dashboard.database import Database
from dashboard.queries.decisions import SEVERITIES
from stream.outcomes import Severity


class Waiting(NamedTuple):
    """A post in the queue; `decision_id` is the policy's decision that a review answers."""

    post_id: str
    decision_id: str
    severity: Severity
    since_ms: int
    language: str
    escalated: bool
    text: str
    author: str
    source: str


class QueueCount(NamedTuple):
    """How much waits, by severity."""

    severity: Severity
    posts: int
    escalated: int
    oldest_ms: int


_WAITING: Final = (
    "SELECT q.post_id, q.decision_id, q.severity, q.since_ms, q.language, q.escalated,"
    " p.text, p.author, p.source FROM queue AS q JOIN posts AS p ON p.post_id = q.post_id"
    " WHERE p.retracted = 0"
)


def waiting(
    db: Database,
    limit: int = 50,
    *,
    languages: tuple[str, ...] = (),
    escalated: bool | None = None,
    not_passed_by: str | None = None,
) -> list[Waiting]:
    """The head of the queue.

    Args:
        db: the read model.
        limit: at most so many.
        languages: only posts in these.
        escalated: only escalated posts, or only the others; None: both.
        not_passed_by: without what this reviewer skipped or escalated.
    """
    sql, values = _WAITING, list[object]()
    if languages:
        sql += f" AND q.language IN ({', '.join('?' * len(languages))})"
        values += languages
    if escalated is not None:
        sql += " AND q.escalated = ?"
        values.append(int(escalated))
    if not_passed_by is not None:
        sql += (
            " AND NOT EXISTS (SELECT 1 FROM reviews AS r WHERE r.post_id = q.post_id"
            " AND r.reviewer = ? AND r.verdict IN ('skip', 'escalate')"
            " AND r.decision_id = q.decision_id"
            " AND NOT EXISTS (SELECT 1 FROM reviews AS u WHERE u.undoes = r.review_id"
            " AND u.undoes <> ''))"
        )
        values.append(not_passed_by)
    sql += " ORDER BY q.severity DESC, q.since_ms, q.post_id LIMIT ?"
    return [_waiting(row) for row in db.execute(sql, [*values, limit])]


def waiting_post(db: Database, post_id: str) -> Waiting | None:
    """One post of the queue; None: it does not wait (any more)."""
    row = db.execute(f"{_WAITING} AND q.post_id = ?", (post_id,)).fetchone()
    return None if row is None else _waiting(row)


def to_judge(db: Database, post_id: str) -> Waiting | None:
    """A post as a reviewer sees it, whether it waits or not; None: deleted, or not decided on."""
    row = db.execute(
        "SELECT d.post_id, d.basis_id, d.severity, d.posted_ms, d.language,"
        " coalesce(q.escalated, 0), p.text, p.author, p.source FROM decisions AS d"
        " JOIN posts AS p ON p.post_id = d.post_id LEFT JOIN queue AS q ON q.post_id = d.post_id"
        " WHERE d.post_id = ? AND d.retracted = 0 AND p.retracted = 0",
        (post_id,),
    ).fetchone()
    return None if row is None else _waiting(row)


def queue_counts(db: Database) -> list[QueueCount]:
    """The queue's length and age, the most severe first; empty: nothing waits."""
    rows = db.execute(
        "SELECT severity, count(*), CAST(sum(escalated) AS BIGINT), min(since_ms) FROM queue"
        " GROUP BY severity ORDER BY severity DESC"
    )
    return [QueueCount(SEVERITIES[row[0]], *row[1:]) for row in rows]


def passed_count(db: Database, reviewer: str) -> int:
    """How many waiting posts this reviewer skipped or escalated."""
    # From the reviews to the queue, not the other way: a person's reviews are the fewer.
    row = db.execute(
        "SELECT count(DISTINCT q.post_id) FROM reviews AS r CROSS JOIN queue AS q"
        " WHERE r.reviewer = ? AND r.verdict IN ('skip', 'escalate') AND q.post_id = r.post_id"
        " AND q.decision_id = r.decision_id AND NOT EXISTS"
        " (SELECT 1 FROM reviews AS u WHERE u.undoes = r.review_id AND u.undoes <> '')",
        (reviewer,),
    ).fetchone()
    return int(row[0])


def _waiting(row: Any) -> Waiting:
    return Waiting._make((*row[:2], SEVERITIES[row[2]], *row[3:5], bool(row[5]), *row[6:]))
