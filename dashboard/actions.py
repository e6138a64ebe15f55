"""What people do: review, undo, skip, escalate, acknowledge, mute, rate, save.

Invariant: an action checks the person's role first, then writes to a topic, and changes the desk
only when the broker has confirmed; a person is a pseudonym in everything that is written.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from dashboard.database import Database
from dashboard.desk import Claim, Desk, SentReview
from dashboard.errors import ClaimError, NotAllowedError
from dashboard.people import Person, Role, needs
from dashboard.writer import Writer
from stream.errors import ConfigError
from stream.outcomes import (
    AUDIT_SCHEMA,
    REVIEW_SCHEMA,
    STRONG_ACTIONS,
    Action,
    AuditEvent,
    Review,
)
from stream.records import rfc3339
from stream.topics import AUDIT, REVIEWS


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a reviewer works with: the desk, the read model, and the way to the topics."""

    desk: Desk
    model: Database
    writer: Writer


ReasonRequired = Literal["never", "strong", "always"]
MAX_NOTE_CHARS: Final = 2000
_LONGEST_MUTE_S: Final = 30 * 86_400


def reason_needed(action: Action, required: ReasonRequired) -> bool:
    """Whether a review with this action needs a reason."""
    return required == "always" or (required == "strong" and action in STRONG_ACTIONS)


@needs(Role.MODERATOR)
def decide(
    person: Person,
    at: Workplace,
    claim: Claim,
    action: Action,
    now_ms: int,
    *,
    reason: str | None = None,
    note: str | None = None,
    labels: Mapping[str, list[str]] | None = None,
    reason_required: ReasonRequired = "strong",
) -> SentReview:
    """Judge the post in hand; returns when the broker has the review.

    Raises:
        NotAllowedError: the role is not enough.
        ClaimError: the post is not in this person's hands any more.
        ConfigError: a reason is needed and missing.
        DeliveryError: the broker did not confirm; the post stays in hand.
    """
    if reason_needed(action, reason_required) and not reason:
        raise ConfigError(f"`{action}` needs a reason", hint="choose one of the policy's reasons")
    return _send(
        person, at, claim, now_ms, "decide",
        action=action, reason=reason, note=note, labels=labels,
    )  # fmt: skip


@needs(Role.MODERATOR)
def skip(person: Person, at: Workplace, claim: Claim, now_ms: int) -> SentReview:
    """Leave the post in hand to others; errors as of `decide`."""
    return _send(person, at, claim, now_ms, "skip")


@needs(Role.MODERATOR)
def escalate(
    person: Person,
    at: Workplace,
    claim: Claim,
    now_ms: int,
    *,
    note: str | None = None,
) -> SentReview:
    """Hand the post in hand to somebody else, who sees that it was escalated; errors as `decide`."""
    return _send(person, at, claim, now_ms, "escalate", note=note)


@needs(Role.MODERATOR)
def undo(person: Person, at: Workplace, review_id: str, now_ms: int) -> Claim | None:
    """Take a review back; the post is in this person's hands again, unless somebody else has it.

    Raises:
        NotAllowedError: another person's review, and this one is no administrator.
        ClaimError: there is no such review, or it was taken back.
        DeliveryError: the broker did not confirm; the review stands.
    """
    review = at.desk.sent_review(review_id) or _stored(at.model, review_id)
    if review is None:
        raise ClaimError("there is no such review to take back, or it was taken back already")
    if review.reviewer != person.pseudonym and not person.may(Role.ADMIN):
        raise NotAllowedError(
            "this review is another person's", hint="an administrator can take it back"
        )
    record = Review(
        schema=REVIEW_SCHEMA,
        review_id=_id("undo", review_id, person.pseudonym),
        post_id=review.post_id,
        reviewer=person.pseudonym,
        at=rfc3339(now_ms),
        verdict="undo",
        undoes=review_id,
        decision_id=review.decision_id or None,
    )
    _write_review(at, record)
    return at.desk.undone(at.model, review, person.pseudonym, now_ms)


@needs(Role.MODERATOR)
def acknowledge_alert(person: Person, writer: Writer, alert_id: str, now_ms: int) -> AuditEvent:
    """Say that somebody is looking after an alert."""
    return _event(person, writer, "alert.acknowledge", alert_id, now_ms)


@needs(Role.MODERATOR)
def mute_alerts(
    person: Person, writer: Writer, rule: str, until_ms: int, now_ms: int
) -> AuditEvent:
    """Mute a rule's alerts until then; a time that has passed ends the mute."""
    if until_ms <= now_ms:
        return _event(person, writer, "alert.unmute", rule, now_ms, detail={"until_ms": 0})
    if until_ms > now_ms + _LONGEST_MUTE_S * 1000:
        raise ConfigError("an alert can be muted for 30 days at most")
    return _event(person, writer, "alert.mute", rule, now_ms, detail={"until_ms": until_ms})


@needs(Role.ANALYST)
def rate_alert(
    person: Person, writer: Writer, alert_id: str, now_ms: int, *, up: bool
) -> AuditEvent:
    """Say whether an alert was worth it; a person's last word counts."""
    return _event(person, writer, "alert.thumbs", alert_id, now_ms, detail={"up": up})


@needs(Role.ANALYST)
def save_brand(
    person: Person, writer: Writer, name: str, query: str | None, now_ms: int
) -> AuditEvent:
    """Save a topic or brand as a boolean query, or delete it (a query of None).

    Raises:
        ConfigError: the name or the query cannot be used.
    """
    from dashboard.queries.brands import parse_query

    if not 0 < len(name.strip()) <= 80:
        raise ConfigError("a topic's name has 1 to 80 characters")
    if query is not None:
        parse_query(query)
    detail = {"query": query} if query is not None else {}
    return _event(
        person, writer, "brand.delete" if query is None else "brand.save", name.strip(), now_ms, detail=detail
    )  # fmt: skip


@needs(Role.VIEWER)
def note_event(
    person: Person,
    writer: Writer,
    what: str,
    on: str,
    now_ms: int,
    *,
    detail: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Anything else that belongs into the audit: a sign-in, an export, a rule changed.

    Whoever calls this has checked the role that the act itself needs.
    """
    return _event(person, writer, what, on, now_ms, detail=detail)


def _send(
    person: Person,
    at: Workplace,
    claim: Claim,
    now_ms: int,
    verdict: Literal["decide", "skip", "escalate"],
    *,
    action: Action | None = None,
    reason: str | None = None,
    note: str | None = None,
    labels: Mapping[str, list[str]] | None = None,
) -> SentReview:
    if claim.reviewer != person.pseudonym:
        raise ClaimError("this post is in another person's hands")
    at.desk.hold_for_sending(claim, now_ms)
    record = Review(
        schema=REVIEW_SCHEMA,
        # The same act again (a double click, a retry) is the same review.
        review_id=_id(verdict, claim.claim_id, action or "", reason or "", note or ""),
        post_id=claim.post.post_id,
        reviewer=person.pseudonym,
        at=rfc3339(now_ms),
        verdict=verdict,
        action=action,
        reason=reason or None,
        note=(note or "")[:MAX_NOTE_CHARS] or None,
        decision_id=claim.post.decision_id,
        labels=dict(labels or {}),
        taken_s=round(max(now_ms - claim.claimed_ms, 0) / 1000, 1),
    )
    _write_review(at, record)
    sent = SentReview(
        record.review_id, record.post_id, claim.post.decision_id, person.pseudonym, verdict
    )
    at.desk.sent(claim, sent, now_ms)
    return sent


def _write_review(at: Workplace, review: Review) -> None:
    row = at.model.execute(
        "SELECT origin_partition FROM posts WHERE post_id = ?", (review.post_id,)
    ).fetchone()
    # To the partition of the post's label, whose decider knows the post.
    at.writer.write(REVIEWS, review.post_id.encode(), review, None if row is None else row[0])


def _stored(model: Database, review_id: str) -> SentReview | None:
    row = model.execute(
        "SELECT review_id, post_id, decision_id, reviewer, verdict FROM reviews AS r"
        " WHERE review_id = ? AND verdict <> 'undo' AND NOT EXISTS"
        " (SELECT 1 FROM reviews AS u WHERE u.undoes = r.review_id AND u.undoes <> '')",
        (review_id,),
    ).fetchone()
    return None if row is None else SentReview(*row)


def _event(
    person: Person,
    writer: Writer,
    what: str,
    on: str,
    now_ms: int,
    *,
    detail: Mapping[str, Any] | None = None,
) -> AuditEvent:
    event = AuditEvent(
        schema=AUDIT_SCHEMA,
        event_id=secrets.token_hex(16),
        at=rfc3339(now_ms),
        who=person.pseudonym,
        what=what,
        on=on,
        detail=dict(detail or {}),
    )
    writer.write(AUDIT, event.event_id.encode(), event)
    return event


def _id(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
