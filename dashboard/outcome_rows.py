"""From records of decisions, reviews, alerts, deliveries, metrics and audit to rows: pure.

Invariant: as in `dashboard.projection`, which of a post's decisions counts depends on the records
alone. The newest place of the post wins; at one place a person's decision wins over the policy's,
the later person's over the earlier, and of the policy's the first that was made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from dashboard.audit_chain import Entry, entry_of
from dashboard.projection import (
    MAX_INT,
    Place,
    UnreadableRecordError,
    short_name,
)
from dashboard.queries.decisions import SEVERITIES, Why
from stream.outcomes import (
    Action,
    Decision,
    decode_alert,
    decode_audit_event,
    decode_decision,
    decode_delivery,
    decode_metric,
    decode_review,
)
from stream.records import MAX_ID_CHARS, encode
from stream.times import timestamp_ms

#: Windows of `metrics` that are kept: minutes for hours, hours for good.
METRIC_WIDTHS_S: Final = (60, 3600)
_SEVERITY: Final = {severity: rank for rank, severity in enumerate(SEVERITIES)}
_MAX_DETAIL_CHARS: Final = 4000
_MAX_KEY: Final = 2600


class DecisionRow(NamedTuple):
    """One row of `decisions`, in the order of its columns after the id, then its detail.

    `policy_action` is empty where the record does not tell what the policy alone said.
    """

    post_id: str
    place_ms: int
    place_partition: int
    place_offset: int
    by_person: int
    decided_ms: int
    decision_id: str
    basis_id: str
    action: str
    policy_action: str
    severity: int
    reason: str
    policy: str
    judged: int
    reviewer: str
    posted_ms: int
    source: str
    language: str
    abusive: int
    rules: str
    retracted: int
    detail: bytes | None

    @property
    def order(self) -> tuple[int, int, int, int, int, str]:
        """The highest of a post's decisions counts."""
        return order_of(*self[1:7])


class ReviewRow(NamedTuple):
    """One row of `reviews`, in the order of its columns."""

    review_id: str
    post_id: str
    reviewer: str
    at_ms: int
    verdict: str
    action: str
    reason: str
    note: str
    undoes: str
    decision_id: str
    taken_s: float | None
    labels: str


class AlertRow(NamedTuple):
    """One row of `alerts`, in the order of its columns."""

    alert_id: str
    rule: str
    kind: str
    state: str
    severity: int
    started_ms: int
    at_ms: int
    resolved_ms: int | None
    test: int
    record: bytes


class DeliveryRow(NamedTuple):
    """One row of `deliveries`, in the order of its columns."""

    delivery_id: str
    at_ms: int
    target: str
    kind: str
    record_id: str
    post_id: str
    state: str
    attempt: int
    status: int | None
    error: str
    elapsed_ms: int | None
    next_ms: int | None


class MetricRow(NamedTuple):
    """One row of `metrics`, in the order of its columns; only `all` keeps its record's sketches."""

    width_s: int
    dimension: str
    name: str
    start_s: int
    partition: int
    of_topic: str
    revision: int
    posts: int
    positive: int
    neutral: int
    negative: int
    toxic: int
    record: bytes


class EventRow(NamedTuple):
    """One row of `events`, in the order of its columns."""

    event_id: str
    at_ms: int
    who: str
    what: str
    on_what: str
    detail: str


def order_of(  # noqa: PLR0917 - as the columns stand
    place_ms: int, partition: int, offset: int, by_person: int, decided_ms: int, decision_id: str
) -> tuple[int, int, int, int, int, str]:
    """What `DecisionRow.order` says, of columns."""
    at = decided_ms if by_person else -decided_ms
    return (place_ms, partition, offset, by_person, at, decision_id)


Row = TypeVar("Row")


def _reader(read: Callable[[bytes, Place], Row]) -> Callable[[bytes | None, Place], Row]:
    """Whatever is wrong with a record is an `UnreadableRecordError`."""

    def reading(value: bytes | None, place: Place) -> Row:
        try:
            return read(value or b"", place)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            raise UnreadableRecordError(str(exc)) from exc

    return reading


@_reader
def decision_row(value: bytes, place: Place) -> tuple[DecisionRow, Entry]:
    """The row of a record on `decisions`, and its entry in the audit."""
    decision = decode_decision(value)
    post_id = _id(decision.post_id)
    decided_ms = timestamp_ms(decision.decided_at)
    by_person = decision.review_id is not None
    origin = decision.origin
    if origin is not None:
        where = (origin.timestamp_ms, origin.partition, origin.offset)
    elif by_person:
        where = (decided_ms, -1, -1)
    else:
        where = (place.timestamp_ms, place.partition, place.offset)
    if max(map(abs, where)) > MAX_INT:
        raise ValueError("`origin` holds a number that no broker gives")
    judged = decision.by == "review"
    has_basis = decision.label_id is not None
    rules = [[short_name(m.id), short_name(m.version), m.mode] for m in decision.rules]
    toxicity = decision.labels.get("toxicity", "")
    post = decision.post
    row = DecisionRow(
        post_id,
        *where,
        int(by_person),
        decided_ms,
        _id(decision.decision_id, 2 * MAX_ID_CHARS),
        (f"policy:{decision.label_id}" if has_basis else "") if by_person else decision.decision_id,
        decision.action.value,
        "" if judged or (by_person and not has_basis) else decision.action.value,
        _SEVERITY[decision.severity],
        short_name(decision.reason),
        short_name(decision.policy),
        int(judged),
        short_name(decision.reviewer),
        timestamp_ms(decision.posted_at) if decision.posted_at else decided_ms,
        short_name(post.source if post else None),
        short_name(decision.language),
        int(toxicity not in ("", "none")),
        json.dumps(rules, separators=(",", ":"), ensure_ascii=False) if rules else "",
        int(decision.retracted),
        _detail(decision),
    )
    entry = entry_of(
        value,
        place,
        at_ms=decided_ms,
        who=row.reviewer if judged else f"policy {row.policy}".strip(),
        what="decision.retract" if decision.retracted else f"decision.{row.action}",
        on=post_id,
        detail=_without_nothing(
            decision_id=decision.decision_id,
            reason=decision.reason,
            severity=decision.severity if decision.rules else None,
            rules=[f"{rule}@{version} {mode}" for rule, version, mode in rules],
            by="review" if judged else None,
        ),
    )
    return row, entry


@_reader
def review_row(value: bytes, place: Place) -> tuple[ReviewRow, Entry]:
    """The row of a record on `reviews`, and its entry in the audit."""
    review = decode_review(value)
    row = ReviewRow(
        _id(review.review_id),
        _id(review.post_id),
        short_name(review.reviewer),
        timestamp_ms(review.at),
        review.verdict,
        review.action.value if review.action else "",
        short_name(review.reason),
        (review.note or "")[:_MAX_DETAIL_CHARS],
        review.undoes or "",
        review.decision_id or "",
        review.taken_s,
        json.dumps(review.labels, sort_keys=True) if review.labels else "",
    )
    entry = entry_of(
        value,
        place,
        at_ms=row.at_ms,
        who=row.reviewer,
        what=f"review.{row.verdict}",
        on=row.post_id,
        by_person=True,
        detail=_without_nothing(
            review_id=row.review_id,
            action=row.action,
            reason=row.reason,
            note=row.note,
            undoes=row.undoes,
            labels=review.labels,
        ),
    )
    return row, entry


@_reader
def event_row(value: bytes, place: Place) -> tuple[EventRow, Entry]:
    """The row of a record on `audit`, and its entry in the audit."""
    event = decode_audit_event(value)
    detail = json.dumps(event.detail, sort_keys=True, ensure_ascii=False)
    row = EventRow(
        _id(event.event_id),
        timestamp_ms(event.at),
        short_name(event.who),
        short_name(event.what),
        event.on[:MAX_ID_CHARS],
        detail if len(detail) <= _MAX_DETAIL_CHARS else "{}",
    )
    entry = entry_of(
        value,
        place,
        at_ms=row.at_ms,
        who=row.who,
        what=row.what,
        on=row.on_what,
        by_person=True,
        detail=event.detail if len(detail) <= _MAX_DETAIL_CHARS else {"too_long": len(detail)},
    )
    return row, entry


@_reader
def alert_row(value: bytes, _: Place) -> AlertRow:
    """The row of a record on `alerts`."""
    alert = decode_alert(value)
    return AlertRow(
        _id(alert.alert_id),
        short_name(alert.rule),
        alert.kind,
        alert.state,
        _SEVERITY[alert.severity],
        timestamp_ms(alert.started_at),
        timestamp_ms(alert.at),
        timestamp_ms(alert.resolved_at) if alert.resolved_at else None,
        int(alert.test),
        value,
    )


@_reader
def delivery_row(value: bytes, _: Place) -> DeliveryRow:
    """The row of a record on `deliveries`."""
    delivery = decode_delivery(value)
    return DeliveryRow(
        _id(delivery.delivery_id, 4 * MAX_ID_CHARS),
        timestamp_ms(delivery.at),
        short_name(delivery.target),
        delivery.kind,
        delivery.record_id,
        delivery.post_id or "",
        delivery.state,
        min(delivery.attempt, MAX_INT),
        delivery.status,
        (delivery.error or "")[:1000],
        delivery.elapsed_ms,
        timestamp_ms(delivery.next_at) if delivery.next_at else None,
    )


@_reader
def metric_row(value: bytes, _: Place) -> MetricRow | None:
    """The row of a record on `metrics`; None: a window that no page asks for."""
    metric = decode_metric(value)
    if (
        metric.of != "labels"
        or metric.by not in ("all", "tag")
        or metric.width_s not in METRIC_WIDTHS_S
    ):
        return None
    if max(abs(metric.start), abs(metric.partition), abs(metric.revision)) > MAX_INT:
        raise ValueError("a number that no window has")
    return MetricRow(
        metric.width_s,
        metric.by,
        _id(metric.group),
        metric.start,
        metric.partition,
        metric.of,
        metric.revision,
        metric.posts,
        metric.positive,
        metric.neutral,
        metric.negative,
        metric.toxic,
        value if metric.by == "all" else b"",
    )


def _detail(decision: Decision) -> bytes | None:
    """What the row does not say; nothing for most posts, which no rule matched."""
    if not (decision.rules or decision.failed_rules or decision.safelist or decision.quota):
        return None
    return encode(
        Why(
            rules=decision.rules,
            failed_rules=decision.failed_rules,
            safelist=decision.safelist,
            quota=decision.quota,
        )
    )


def _id(name: str, longest: int = MAX_ID_CHARS) -> str:
    # It is the key of a row: PostgreSQL's indexes take no longer one.
    if not 0 < len(name) <= longest or (
        len(name) > _MAX_KEY // 4 and len(name.encode()) > _MAX_KEY
    ):
        raise ValueError("an id is empty or too long")
    return name


def _without_nothing(**detail: Any) -> dict[str, Any]:
    return {name: value for name, value in detail.items() if value}


#: Actions that uphold a rule's match: everything but letting the post be.
def upholds(action: str) -> bool:
    """Whether a person who takes this action agrees that the post is one for the rules."""
    return action != Action.ALLOW.value
