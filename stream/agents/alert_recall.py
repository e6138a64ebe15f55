"""What the alert role reads when it takes over: its memory, what was published, recent metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from stream.alerts.evaluator import Evaluator
from stream.alerts.history import History
from stream.alerts.memory import MOST_PIECES, Memory, Places, read_hours, read_state
from stream.alerts.rules import RuleSet
from stream.alerts.state import State
from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import OffsetRange
from stream.kafka.scan import scan, topic_ranges
from stream.outcomes import Alert, decode_alert, decode_metric
from stream.roles import Duty, group_of
from stream.settings import KafkaSettings, Settings
from stream.topics import ALERT_STATE, ALERTS, BASELINES, METRICS

#: At the very first start metrics that are older than this teach, and nothing fires.
_FIRST_S: Final = 3600


@dataclass(slots=True)
class Recalled:
    """An evaluator that stands where the one before it stood.

    `missed` are records that were committed and are not in its memory.
    """

    evaluator: Evaluator
    places: Places
    missed: list[tuple[int, bytes | None]] = field(default_factory=list)

    def take_missed(self) -> list[tuple[int, bytes | None]]:
        """The missed records, once."""
        missed, self.missed = self.missed, []
        return missed

    def facts(self) -> dict[str, Any]:
        """For the log."""
        state = self.evaluator.state
        active = sum(s.alert_id is not None for s in state.standings.values())
        return {"from_offset": self.places.next_offset, "open": active}


def recall(settings: Settings, rules: RuleSet) -> Recalled:
    """Read back what there is; it takes a moment, and belongs into a thread.

    Raises:
        BrokerError: the broker does not answer.
    """
    kafka = settings.kafka
    prefix = kafka.topic_prefix
    memory = read_state(_tail(kafka, ALERT_STATE.full_name(prefix), MOST_PIECES))
    seasons = read_hours((r.value for r in scan(kafka, BASELINES.full_name(prefix))), rules)
    history = History(published(kafka))
    metrics = METRICS.full_name(prefix)
    there = topic_ranges(kafka, metrics).get(0, OffsetRange(0, 0))
    committed = _committed(kafka, group_of(settings, Duty("alert")), metrics)
    if memory is None:
        return _first(kafka, rules, history, there, committed)
    evaluator = Evaluator(rules, memory.state, history, seasons)
    places = Places(next_offset=memory.next_offset)
    places.marks.append((memory.state.tick or 0, memory.rewind_offset))
    for record in _between(kafka, metrics, there, memory.rewind_offset, memory.next_offset):
        _fill(evaluator, record)
    missed = list(_between(kafka, metrics, there, memory.next_offset, committed))
    return Recalled(evaluator, places, missed)


def published(kafka: KafkaSettings) -> Iterator[Alert]:
    """Every alert there is, in the order of the topic."""
    for record in scan(kafka, ALERTS.full_name(kafka.topic_prefix)):
        with contextlib.suppress(msgspec.DecodeError):
            yield decode_alert(record.value or b"")


def _first(
    kafka: KafkaSettings, rules: RuleSet, history: History, there: OffsetRange, committed: int
) -> Recalled:
    """Without a memory: what was read before teaches, and so does what is old."""
    state = State(quiet_until=1 << 60)
    evaluator = Evaluator(rules, state, history)
    places = Places()
    metrics = METRICS.full_name(kafka.topic_prefix)
    for offset, value in _between(kafka, metrics, there, there.first, committed):
        with contextlib.suppress(msgspec.DecodeError):
            evaluator.add(decode_metric(value or b""))
        places.read(offset, state.tick, rules.longest_s)
    state.quiet_until = int(time.time()) - _FIRST_S
    return Recalled(evaluator, places)


def _fill(evaluator: Evaluator, record: tuple[int, bytes | None]) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        evaluator.fill(decode_metric(record[1] or b""))


def _between(
    kafka: KafkaSettings, topic: str, there: OffsetRange, first: int, end: int
) -> Iterable[tuple[int, bytes | None]]:
    """Offset and value of partition 0 from `first` up to `end`, as far as they are there."""
    wanted = OffsetRange(max(first, there.first), min(end, there.end))
    return ((r.offset, r.value) for r in scan(kafka, topic, {0: wanted}))


def _tail(kafka: KafkaSettings, topic: str, most: int) -> Iterable[bytes | None]:
    there = topic_ranges(kafka, topic)
    wanted = {n: OffsetRange(max(r.first, r.end - most), r.end) for n, r in there.items()}
    return (record.value for record in scan(kafka, topic, wanted))


def _committed(kafka: KafkaSettings, group: str, topic: str) -> int:
    """The group's committed offset in partition 0; 0 where there is none."""
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(
            **kafka_python_config(kafka), group_id=group, enable_auto_commit=False
        )
        with contextlib.closing(consumer):
            return int(consumer.committed(TopicPartition(topic, 0)) or 0)
    except KafkaError as exc:
        raise BrokerError(
            f"the committed offset cannot be read: {reason_of(exc)}", where=topic
        ) from exc


__all__ = ["Memory", "Recalled", "published", "recall"]
