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
from stream.alerts.memory import MOST_PIECES, Places, read_hours, read_state
from stream.alerts.rules import RuleSet
from stream.alerts.state import State
from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import OffsetRange
from stream.kafka.scan import Scanned, newest, open_scanner
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
    state, baselines, alerts, metrics = (
        topic.full_name(kafka.topic_prefix) for topic in (ALERT_STATE, BASELINES, ALERTS, METRICS)
    )
    committed = _committed(kafka, group_of(settings, Duty("alert")), metrics)
    with open_scanner(kafka) as scanner:
        there = scanner.ranges(state, baselines, alerts, metrics)
        memory = read_state(r.value for r in scanner.read(state, newest(there[state], MOST_PIECES)))
        seasons = read_hours((r.value for r in scanner.read(baselines, there[baselines])), rules)
        history = History(_alerts(scanner.read(alerts, there[alerts])))

        def between(first: int, end: int) -> Iterator[tuple[int, bytes | None]]:
            kept = there[metrics].get(0, OffsetRange(0, 0))
            wanted = OffsetRange(max(first, kept.first), min(end, kept.end))
            return ((r.offset, r.value) for r in scanner.read(metrics, {0: wanted}))

        if memory is None:
            return _first(rules, history, between(0, committed))
        evaluator = Evaluator(rules, memory.state, history, seasons)
        places = Places(next_offset=memory.next_offset)
        places.marks.append((memory.state.tick or 0, memory.rewind_offset))
        for _, value in between(memory.rewind_offset, memory.next_offset):
            with contextlib.suppress(msgspec.DecodeError):
                evaluator.fill(decode_metric(value or b""))
        return Recalled(evaluator, places, list(between(memory.next_offset, committed)))


def _alerts(records: Iterable[Scanned]) -> Iterator[Alert]:
    for record in records:
        with contextlib.suppress(msgspec.DecodeError):
            yield decode_alert(record.value or b"")


def _first(rules: RuleSet, history: History, read: Iterable[tuple[int, bytes | None]]) -> Recalled:
    """Without a memory: what was read before teaches, and so does what is old."""
    state = State(quiet_until=1 << 60)
    evaluator = Evaluator(rules, state, history)
    places = Places()
    for offset, value in read:
        with contextlib.suppress(msgspec.DecodeError):
            evaluator.add(decode_metric(value or b""))
        places.read(offset, state.tick, rules.longest_s)
    state.quiet_until = int(time.time()) - _FIRST_S
    return Recalled(evaluator, places)


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
