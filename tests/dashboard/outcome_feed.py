"""Decisions and reviews as the workers and the dashboard would write them: made up, deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dashboard.reading import read_records
from dashboard.store import Batch
from stream.decisions.reviews import decision_by_review, decision_by_undo
from stream.outcomes import (
    AUDIT_SCHEMA,
    DECISION_SCHEMA,
    REVIEW_SCHEMA,
    Action,
    AuditEvent,
    Decision,
    Review,
    RuleMatch,
)
from stream.records import Label, encode, rfc3339
from stream.topics import Topic


@dataclass(frozen=True)
class Read:
    """A record as a consumer hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes


def decision_on(
    label: Label,
    action: Action = Action.ALLOW,
    *,
    severity: str = "medium",
    rules: Sequence[tuple[str, str, str]] = (),
    decided_ms: int = 0,
) -> Decision:
    """The policy's decision on a label."""
    assert label.origin is not None
    at_ms = decided_ms or label.origin.timestamp_ms + 100
    language = label.labels.get("language")
    return Decision(
        schema=DECISION_SCHEMA,
        decision_id=f"policy:{label.label_id}",
        post_id=label.post_id,
        action=Action.ALLOW if label.retracted else action,
        decided_at=rfc3339(at_ms),
        severity="info" if action is Action.ALLOW else severity,  # type: ignore[arg-type]
        reason=None if action is Action.ALLOW else "insult",
        policy="p1",
        rules=[
            RuleMatch(
                id=rule,
                version=version,
                mode=mode,  # type: ignore[arg-type]
                action=Action.REVIEW,
                severity="medium",
                reason="insult",
                score=0.9,
            )
            for rule, version, mode in rules
        ],
        label_id=label.label_id,
        posted_at=label.posted_at,
        language=language.label if language else None,
        labels={task: answer.label for task, answer in label.labels.items()},
        origin=label.origin,
        post=label.post,
        retracted=label.retracted,
    )


def review_on(
    decision: Decision,
    reviewer: str,
    action: Action | None,
    at_ms: int,
    *,
    verdict: str = "decide",
    undoes: str | None = None,
) -> Review:
    """What a person says of a decision."""
    return Review(
        schema=REVIEW_SCHEMA,
        review_id=f"{reviewer}-{verdict}-{decision.post_id}-{at_ms}",
        post_id=decision.post_id,
        reviewer=reviewer,
        at=rfc3339(at_ms),
        verdict=verdict,  # type: ignore[arg-type]
        action=action,
        undoes=undoes,
        decision_id=decision.decision_id,
    )


def after(review: Review, basis: Decision) -> Decision:
    """The decision that follows from a review."""
    if review.verdict == "undo":
        return decision_by_undo(review, basis, 0)
    return decision_by_review(review, basis)


def event(what: str, on: str, at_ms: int, who: str = "kestrel", **detail: Any) -> AuditEvent:
    return AuditEvent(
        schema=AUDIT_SCHEMA, event_id=f"{what}-{on}-{at_ms}", at=rfc3339(at_ms), who=who, what=what,
        on=on, detail=detail,
    )  # fmt: skip


def batch_of_outcomes(
    records: Iterable[tuple[Topic, msgspec.Struct]], first: dict[str, int] | None = None
) -> Batch:
    """The records as the projector would read them, all of partition 0; `first` counts offsets."""
    batch = Batch()
    next_offset = {} if first is None else first
    for topic, record in records:
        offset = next_offset.get(topic.name, 0)
        next_offset[topic.name] = offset + 1
        read_records(batch, topic, [Read(topic.name, 0, offset, 0, encode(record))])
        batch.offsets[topic.name, 0] = offset + 1
    return batch
