"""A decision or an alert as hooks see it: what it is called, its stable id, what it is about.

The invariant: `message_id` depends on the record's own id (and an alert's state) and on nothing
else, so that every attempt, retry, replay and re-read after a crash carries the same one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

from stream.outcomes import (
    ALERT_SCHEMA,
    DECISION_SCHEMA,
    Action,
    Alert,
    AlertExample,
    Decision,
    RuleMatch,
    decode_alert,
    decode_decision,
)
from stream.records import POST_SCHEMA, Author, Post, encode

Kind = Literal["decision", "alert", "test"]

#: Characters of a post's text that a body keeps when the whole post makes it too large.
_SHORT_TEXT_CHARS: Final = 2_000


class Place(NamedTuple):
    """Where a record was read."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """As in the dead letters: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Event:
    """One decision or alert on its way to a target.

    Args:
        kind: which of the two; a test is a made-up one.
        record: what was read.
        original: its bytes on the topic.
        place: where it was read; None for one that is made up.
    """

    kind: Kind
    record: Decision | Alert
    original: bytes
    place: Place | None = None

    @property
    def record_id(self) -> str:
        """The decision's id; an alert's with its state, because an episode has two records."""
        if isinstance(self.record, Decision):
            return self.record.decision_id
        return f"{self.record.alert_id}/{self.record.state}"

    @property
    def message_id(self) -> str:
        """The idempotency key that receivers see; letters, digits and `_` only."""
        kind = "decision" if isinstance(self.record, Decision) else "alert"
        name = f"{kind}\n{self.record_id}".encode("utf-8", "surrogatepass")
        return f"msg_{hashlib.blake2b(name, digest_size=16).hexdigest()}"

    @property
    def subject(self) -> str:
        """What it is about; records of one subject reach a target in their order."""
        return self.record.post_id if isinstance(self.record, Decision) else self.record.alert_id

    @property
    def post_id(self) -> str | None:
        """The post of a decision."""
        return self.record.post_id if isinstance(self.record, Decision) else None

    @property
    def at(self) -> str:
        """When it was decided or raised, RFC 3339."""
        return self.record.decided_at if isinstance(self.record, Decision) else self.record.at

    @property
    def type(self) -> str:
        """The event's name for receivers. Part of the wire format: never renamed."""
        if isinstance(self.record, Alert):
            return f"alert.{self.record.state}"
        if self.record.retracted:
            return "post.retracted"
        if self.record.by == "review":
            return "review.decided"
        if self.record.action is not Action.ALLOW:
            return "post.flagged"
        return "rule.shadow_hit" if self.record.rules else "post.allowed"


def decode_event(kind: Literal["decision", "alert"], value: bytes, place: Place) -> Event:
    """The event in a record's value.

    Raises:
        msgspec.DecodeError: it is not a decision or an alert.
    """
    record = decode_decision(value) if kind == "decision" else decode_alert(value)
    return Event(kind, record, value, place)


def data_of(event: Event, most_bytes: int, *, thin: bool = False) -> dict[str, Any]:
    """The record as plain data, without what would make its JSON larger than `most_bytes`.

    First a post's unknown fields go, then the end of its text, then the post and every span; the
    field `shortened` says so. `thin` leaves the post out from the start.
    """
    record = event.record
    if isinstance(record, Alert):
        steps: list[Decision | Alert] = [
            record,
            msgspec.structs.replace(record, examples=[_short(e) for e in record.examples]),
            msgspec.structs.replace(record, examples=[]),
        ]
    elif thin or record.post is None:
        steps = [_bare(record)]
    else:
        post = msgspec.structs.replace(record.post, meta={})
        text = (post.text or "")[:_SHORT_TEXT_CHARS]
        short = Post(id=post.id, text=text, author=post.author, url=post.url, source=post.source)
        steps = [
            record,
            msgspec.structs.replace(record, post=post),
            msgspec.structs.replace(record, post=short),
            _bare(record),
        ]
    for number, step in enumerate(steps):
        if len(encode(step)) <= most_bytes or number == len(steps) - 1:
            data: dict[str, Any] = msgspec.to_builtins(step)
            return {**data, "shortened": True} if number else data
    raise AssertionError  # the loop returns at its last step


def _bare(decision: Decision) -> Decision:
    rules = [msgspec.structs.replace(rule, spans=[]) for rule in decision.rules]
    return msgspec.structs.replace(decision, post=None, rules=rules)


def _short(example: AlertExample) -> AlertExample:
    return msgspec.structs.replace(example, text=(example.text or "")[:280])


def sample_events(now: str) -> list[Event]:
    """A made-up decision, and a made-up alert that fires and resolves: for tests of a target."""
    rule = RuleMatch(
        id="sample-rule",
        version="1",
        mode="live",
        action=Action.REVIEW,
        severity="medium",
        reason="reasonTest",
        score=0.97,
    )
    decision = Decision(
        schema=DECISION_SCHEMA,
        decision_id=f"test@{now}",
        post_id="test",
        action=Action.REVIEW,
        severity="medium",
        reason="reasonTest",
        decided_at=now,
        rules=[rule],
        language="en",
        scores={"toxicity": 0.97},
        post=Post(
            id="test",
            schema=POST_SCHEMA,
            text="This is a test of a hook: no post was written, and nothing happened.",
            author=Author(id="tidegate", handle="tidegate"),
            source="test",
        ),
    )
    firing = Alert(
        schema=ALERT_SCHEMA,
        alert_id=f"test@{now}",
        rule="sample-alert",
        kind="threshold",
        state="firing",
        severity="info",
        summary="This is a test of a hook: nothing happened.",
        started_at=now,
        at=now,
        observed=0.3,
        threshold=0.2,
        unit="share of posts",
    )
    resolved = msgspec.structs.replace(firing, state="resolved", resolved_at=now)
    return [Event("test", record, encode(record)) for record in (decision, firing, resolved)]
