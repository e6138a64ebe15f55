"""Which topics the read model is made of, and how their records go into a batch.

Invariant: a record that is not what its topic promises is counted and, on an audited topic, noted
in the audit; it never stops what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from dashboard.audit_chain import unreadable_entry
from dashboard.outcome_rows import (
    alert_row,
    decision_row,
    delivery_row,
    event_row,
    metric_row,
    review_row,
)
from dashboard.projection import Place, UnreadableRecordError, dead_letter_row, post_row
from dashboard.store import Batch
from dashboard.worker_beats import worker_row
from stream.topics import (
    ALERTS,
    AUDIT,
    DEAD_LETTERS,
    DECISIONS,
    DELIVERIES,
    LABELS,
    METRICS,
    REVIEWS,
    WORKERS,
    Topic,
)

log = structlog.get_logger("tidegate.projector")

#: What the projector reads; topics that are not there (yet) are left out until they are.
READ_TOPICS: Final = (
    LABELS,
    DEAD_LETTERS,
    DECISIONS,
    REVIEWS,
    ALERTS,
    DELIVERIES,
    METRICS,
    AUDIT,
    WORKERS,
)
_AUDITED: Final[dict[str, Callable[..., Any]]] = {
    DECISIONS.name: decision_row,
    REVIEWS.name: review_row,
    AUDIT.name: event_row,
}
_ROWS: Final[dict[str, Callable[..., Any]]] = {
    LABELS.name: post_row,
    DEAD_LETTERS.name: dead_letter_row,
    ALERTS.name: alert_row,
    DELIVERIES.name: delivery_row,
    METRICS.name: metric_row,
    WORKERS.name: worker_row,
}


def read_records(batch: Batch, topic: Topic, records: Iterable[Any]) -> None:
    """Put the rows of some records of one topic into the batch.

    Args:
        batch: takes them.
        topic: whose records they are.
        records: anything with `topic`, `partition`, `offset`, `timestamp` and `value`.
    """
    rows = _rows_of(batch, topic)
    unreadable = f"unreadable_{topic.name.replace('-', '_')}"
    audited = _AUDITED.get(topic.name)
    if audited is not None:
        entries = batch.outcomes.entries.setdefault(topic.name, [])
        for record in records:
            place = Place(record.partition, record.offset, record.timestamp)
            try:
                row, entry = audited(record.value, place)
            except UnreadableRecordError as exc:
                batch.counters[unreadable] += 1
                entry = unreadable_entry(record.value, place)
                _say(record, exc)
            else:
                rows.append(row)
            entries.append(entry)
        return
    row_of = _ROWS[topic.name]
    for record in records:
        try:
            row = row_of(record.value, Place(record.partition, record.offset, record.timestamp))
        except UnreadableRecordError as exc:
            batch.counters[unreadable] += 1
            _say(record, exc)
        else:
            if row is not None:
                rows.append(row)


def _rows_of(batch: Batch, topic: Topic) -> list[Any]:
    found: dict[str, list[Any]] = {
        LABELS.name: batch.posts,
        DEAD_LETTERS.name: batch.dead_letters,
        DECISIONS.name: batch.outcomes.decisions,
        REVIEWS.name: batch.outcomes.reviews,
        ALERTS.name: batch.outcomes.alerts,
        DELIVERIES.name: batch.outcomes.deliveries,
        METRICS.name: batch.outcomes.metrics,
        AUDIT.name: batch.outcomes.events,
        WORKERS.name: batch.workers,
    }
    return found[topic.name]


def _say(record: Any, exc: UnreadableRecordError) -> None:
    log.debug(
        "unreadable record", at=f"{record.topic}[{record.partition}]@{record.offset}", why=str(exc)
    )
