"""What became of a post and why, who wrote it, and what people said of it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from dashboard.database import Database
from stream.outcomes import Action, RuleMatch, Severity

#: `Severity` by its rank, as the read model holds it.
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")


class Why(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision says beyond its action."""

    rules: list[RuleMatch] = msgspec.field(default_factory=list)
    failed_rules: list[str] = msgspec.field(default_factory=list)
    safelist: str | None = None
    quota: str | None = None


decode_why: Final = msgspec.json.Decoder(Why).decode


class DecisionView(NamedTuple):
    """The decision in force on a post.

    `policy_action` is what the policy alone said; `judged` whether a person's verdict stands, and
    `reviewer` their pseudonym. `basis_id` is the policy's decision that a review answers.
    """

    post_id: str
    decision_id: str
    basis_id: str
    action: Action
    policy_action: Action
    severity: Severity
    reason: str
    policy: str
    judged: bool
    reviewer: str
    decided_ms: int
    why: Why


class AuthorPost(NamedTuple):
    """A post of an author, as their history shows it; `action` is empty where nobody decided."""

    post_id: str
    posted_ms: int
    text: str
    language: str
    sentiment: str
    toxicity: str
    toxicity_score: float
    action: str
    judged: bool


class ReviewView(NamedTuple):
    """A person's review; `undone` where somebody took it back."""

    review_id: str
    post_id: str
    reviewer: str
    at_ms: int
    verdict: str
    action: str
    reason: str
    note: str
    undone: bool
    taken_s: float | None


_REVIEW: Final = (
    "SELECT review_id, post_id, reviewer, at_ms, verdict, action, reason, note,"
    " EXISTS (SELECT 1 FROM reviews AS u WHERE u.undoes = r.review_id AND u.undoes <> ''),"
    " taken_s FROM reviews AS r"
)


def decision_of(db: Database, post_id: str) -> DecisionView | None:
    """The decision in force; None: nobody decided yet, or the post is deleted."""
    row = db.execute(
        "SELECT post_id, decision_id, basis_id, action, policy_action, severity, reason, policy,"
        " judged, reviewer, decided_ms, detail FROM decisions AS d"
        " LEFT JOIN decision_details AS w ON w.id = d.id WHERE post_id = ? AND retracted = 0",
        (post_id,),
    ).fetchone()
    if row is None:
        return None
    return DecisionView._make(
        (
            *row[:3],
            Action(row[3]),
            Action(row[4]),
            SEVERITIES[row[5]],
            *row[6:8],
            bool(row[8]),
            *row[9:11],
            decode_why(row[11]) if row[11] else Why(),
        )
    )


def actions_of(db: Database, post_ids: list[str]) -> dict[str, str]:
    """The action in force on each of a page's posts, where there is one."""
    if not post_ids:
        return {}
    marks = ", ".join("?" * len(post_ids))
    return dict(
        db.execute(
            f"SELECT post_id, action FROM decisions WHERE retracted = 0 AND post_id IN ({marks})",  # noqa: S608  placeholders only
            post_ids,
        ).fetchall()
    )


def author_posts(db: Database, author: str, limit: int = 10) -> list[AuthorPost]:
    """An author's newest posts."""
    if not author:
        return []
    rows = db.execute(
        "SELECT p.post_id, p.posted_ms, p.text, p.language, p.sentiment, p.toxicity,"
        " p.toxicity_score, coalesce(d.action, ''), coalesce(d.judged, 0)"
        " FROM posts AS p LEFT JOIN decisions AS d ON d.post_id = p.post_id"
        " WHERE p.author <> '' AND p.author = ? AND p.retracted = 0"
        " ORDER BY p.posted_ms DESC LIMIT ?",
        (author, limit),
    )
    return [AuthorPost._make((*row[:-1], bool(row[-1]))) for row in rows]


def reviews_of(db: Database, post_id: str) -> list[ReviewView]:
    """Everything people said of a post, the newest first."""
    rows = db.execute(f"{_REVIEW} WHERE post_id = ? ORDER BY at_ms DESC, review_id", (post_id,))
    return [_review(row) for row in rows]


def recent_reviews(
    db: Database, reviewer: str | None = None, limit: int = 50, since_ms: int = 0
) -> list[ReviewView]:
    """The newest reviews, of one reviewer or of all."""
    where, values = ("reviewer = ? AND ", [reviewer]) if reviewer is not None else ("", [])
    rows = db.execute(
        f"{_REVIEW} WHERE {where}at_ms >= ? ORDER BY at_ms DESC, review_id LIMIT ?",
        [*values, since_ms, limit],
    )
    return [_review(row) for row in rows]


def _review(row: Any) -> ReviewView:
    return ReviewView._make((*row[:8], bool(row[8]), row[9]))
