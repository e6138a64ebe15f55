"""The delivery log: the topic `deliveries`, read, and what it remembers of a target after a crash.

A target's log lies in one partition, by the checksum of its name. A crash loses what was in
memory: how often a record was tried, when it is due, and which later ones were delivered while it
waited. The end of the log has all three, so that a restart goes on with the schedule and delivers
little twice.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from stream.hooks.events import Event, Place, decode_event
from stream.hooks.schedule import JITTER
from stream.kafka.offsets import OffsetRange
from stream.kafka.scan import Scanned, newest, open_scanner
from stream.outcomes import Delivery, decode_delivery
from stream.settings import KafkaSettings
from stream.times import moment_or_never
from stream.topics import ALERTS, DECISIONS, DELIVERIES

#: So many of the newest records of the log are read after a start: some windows of some targets.
REMEMBERED: Final = 100_000
#: Alerts of which it is known where they were read first.
_MOST_ALERTS: Final = 10_000


def log_partition(target: str, partitions: int) -> int:
    """The partition of `deliveries` that holds a target's log."""
    return zlib.crc32(target.encode()) % partitions


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which deliveries are meant; an empty filter means all. `ids` are of records or posts."""

    targets: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    since: datetime | None = None

    def __call__(self, delivery: Delivery) -> bool:
        """Whether the delivery is meant."""
        if self.targets and delivery.target not in self.targets:
            return False
        if self.states and delivery.state not in self.states:
            return False
        if self.ids and not self.ids & {delivery.record_id, delivery.post_id, delivery.delivery_id}:
            return False
        return self.since is None or moment_or_never(delivery.at) >= self.since


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the log says of one record: how it stands, how often it was tried, when it is due."""

    record_id: str
    state: str
    attempt: int
    since: float
    due: float
    logged_step: int | None = None

    def step(self, schedule: Sequence[float]) -> int:
        """How far the schedule is: not the number of attempts, for some were put off by the target.

        In a log of an earlier version by the time between the first attempt and the next.
        """
        if self.logged_step is not None:
            return self.logged_step
        passed_s, at_s, step = self.due - self.since, 0.0, 0
        for number, span_s in enumerate(schedule):
            at_s += span_s * (1 - JITTER)
            if at_s <= passed_s:
                step = number
        return step


class Memory:
    """What the end of a target's log says, by the place of the record."""

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        self._by_place: dict[str, Remembered] = {}
        #: Where each alert's record was read first.
        self._first: dict[str, Place] = {}
        for delivery in deliveries:
            place = place_of(delivery)
            if place is None:
                continue
            if delivery.kind == "alert":
                self._note(delivery.record_id, place)
            at = moment_or_never(delivery.at).timestamp()
            known = self._by_place.get(str(place))
            since = at if known is None or known.record_id != delivery.record_id else known.since
            due = at if delivery.next_at is None else moment_or_never(delivery.next_at).timestamp()
            self._by_place[str(place)] = Remembered(
                delivery.record_id, delivery.state, delivery.attempt, since, due, delivery.step
            )

    def __len__(self) -> int:
        """How many records are remembered."""
        return len(self._by_place)

    def of(self, event: Event) -> Remembered | None:
        """What is known of an event; the record must be the same, not only its place."""
        found = self._by_place.get(str(event.place))
        return found if found is not None and found.record_id == event.record_id else None

    def repeats(self, event: Event) -> bool:
        """Whether an alert has said so before, further up in its topic.

        Two workers that reach one quota in the same instant both say it, under one id.
        """
        if event.kind != "alert" or event.place is None:
            return False
        return self._note(event.record_id, event.place) < event.place

    def _note(self, record_id: str, place: Place) -> Place:
        first = min(place, self._first.get(record_id, place))
        self._first[record_id] = first
        if len(self._first) > _MOST_ALERTS:
            del self._first[next(iter(self._first))]
        return first


def place_of(delivery: Delivery) -> Place | None:
    """Where the record of a delivery was read; None for one that was in no topic."""
    rest = delivery.delivery_id.removeprefix(f"{delivery.target}/").rpartition("#")[0]
    topic, _, rest = rest.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        return None
    return Place(topic, int(partition), int(offset))


def read_log(
    kafka: KafkaSettings,
    wanted: Callable[[Delivery], bool],
    *,
    target: str | None = None,
    most: int | None = None,
) -> Iterator[Delivery]:
    """The wanted deliveries that are in the topic now, oldest first within each partition.

    Args:
        kafka: the broker.
        wanted: a `LogFilter`, or any other question.
        target: read this target's partition only.
        most: of each partition, only so many of the newest.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    topic = DELIVERIES.full_name(kafka.topic_prefix)
    for record in read_topic(
        kafka, topic, lambda n: None if target is None else {log_partition(target, n)}, most
    ):
        with contextlib.suppress(msgspec.DecodeError):
            delivery = decode_delivery(record.value or b"")
            if wanted(delivery):
                yield delivery


def remember(kafka: KafkaSettings, target: str) -> Memory:
    """What the end of the target's log says.

    Raises:
        BrokerError: the broker does not answer.
    """
    wanted = LogFilter(targets=frozenset({target}))
    return Memory(read_log(kafka, wanted, target=target, most=REMEMBERED))


def read_topic(
    kafka: KafkaSettings,
    topic: str,
    chosen: Callable[[int], set[int] | None] = lambda _: None,
    most: int | None = None,
) -> Iterator[Scanned]:
    """What is in a topic now.

    Args:
        kafka: the broker.
        topic: its full name.
        chosen: told the number of partitions, says which to read; None: all of them.
        most: of each partition, only so many of the newest.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    with open_scanner(kafka) as scanner:
        there = scanner.ranges(topic)[topic]
        wanted = chosen(len(there)) if there else None
        if wanted is not None:
            there = {number: each for number, each in there.items() if number in wanted}
        yield from scanner.read(topic, there if most is None else newest(there, most))


def recent_alerts(kafka: KafkaSettings, partitions: set[int], most: int) -> list[tuple[Event, int]]:
    """The newest alerts of these partitions, oldest first, each with its record's time in ms.

    Args:
        kafka: the broker.
        partitions: of the topic `alerts`.
        most: of each partition.

    Raises:
        BrokerError: the broker does not answer.
    """
    name = ALERTS.full_name(kafka.topic_prefix)
    return [
        (event, at_ms)
        for number, offset, at_ms, value in read_topic(kafka, name, lambda _: partitions, most)
        for event in _decoded({name: "alert"}, Place(name, number, offset), value)
    ]


def events_at(kafka: KafkaSettings, places: Iterable[Place]) -> Iterator[Event]:
    """The events at these places, as far as the topics still hold them.

    Raises:
        BrokerError: the broker does not answer.
    """
    kinds = {
        DECISIONS.full_name(kafka.topic_prefix): "decision",
        ALERTS.full_name(kafka.topic_prefix): "alert",
    }
    wanted: dict[tuple[str, int], list[int]] = {}
    for place in places:
        if place.topic in kinds:
            wanted.setdefault((place.topic, place.partition), []).append(place.offset)
    with open_scanner(kafka) as scanner:
        there = scanner.ranges(*{topic for topic, _ in wanted})
        for (topic, number), offsets in wanted.items():
            first, end = there[topic].get(number, OffsetRange(0, 0))
            inside = sorted({offset for offset in offsets if first <= offset < end})
            if not inside:
                continue
            stretch = {number: OffsetRange(inside[0], inside[-1] + 1)}
            for record in scanner.read(topic, stretch):
                if record.offset in inside:
                    yield from _decoded(kinds, Place(topic, number, record.offset), record.value)


def _decoded(kinds: Mapping[str, str], place: Place, value: bytes | None) -> Iterator[Event]:
    with contextlib.suppress(msgspec.DecodeError):
        kind = kinds[place.topic]
        yield decode_event("decision" if kind == "decision" else "alert", value or b"", place)
