"""A topic read from a place to the end it has now, by who needs to know what is there already.

Invariant: a scan ends; what is written while it runs is not in it. Within a partition records come
in their order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import OffsetRange, offset_ranges
from stream.settings import KafkaSettings

#: A broker that gives nothing for so long, while there is more, has gone away.
_SILENCE_TIMEOUT_S: Final = 30.0


class Scanned(NamedTuple):
    """A record, and where it lies."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None


class Scanner:
    """Reads topics to their ends, one after the other, over one connection.

    Args:
        kafka: the broker.
        consumer: kafka-python's, of no group.
    """

    def __init__(self, kafka: KafkaSettings, consumer: Any) -> None:
        self._kafka = kafka
        self._consumer = consumer

    def ranges(self, *topics: str) -> dict[str, dict[int, OffsetRange]]:
        """By topic, first and end offset of each partition; empty where there is no such topic.

        Raises:
            BrokerError: the broker does not answer.
        """
        partitions = [
            (topic, number)
            for topic in topics
            for number in self._consumer.partitions_for_topic(topic) or ()
        ]
        found: dict[str, dict[int, OffsetRange]] = {topic: {} for topic in topics}
        for (topic, partition), each in offset_ranges(self._kafka, partitions).items():
            found[topic][partition] = each
        return found

    def read(self, topic: str, places: Mapping[int, OffsetRange]) -> Iterator[Scanned]:
        """The records of a topic between these offsets.

        Raises:
            BrokerError: the broker goes away in the middle.
        """
        from kafka import TopicPartition

        ends = {TopicPartition(topic, n): at.end for n, at in places.items() if at.end > at.first}
        self._consumer.assign(list(ends))
        for partition in ends:
            self._consumer.seek(partition, places[partition.partition].first)
        yield from _until(self._consumer, ends)


@contextlib.contextmanager
def open_scanner(kafka: KafkaSettings) -> Iterator[Scanner]:
    """A `Scanner` for the broker of the settings.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(**kafka_python_config(kafka), enable_auto_commit=False)
        with contextlib.closing(consumer):
            yield Scanner(kafka, consumer)
    except KafkaError as exc:
        raise BrokerError(f"the topics cannot be read: {reason_of(exc)}") from exc


def scan(kafka: KafkaSettings, topic: str) -> Iterator[Scanned]:
    """All records that a topic has now.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    with open_scanner(kafka) as scanner:
        yield from scanner.read(topic, scanner.ranges(topic)[topic])


def newest(there: Mapping[int, OffsetRange], most: int) -> dict[int, OffsetRange]:
    """Of each partition its last `most` records."""
    return {n: OffsetRange(max(at.first, at.end - most), at.end) for n, at in there.items()}


def _until(consumer: Any, ends: dict[Any, int]) -> Iterator[Scanned]:
    heard_s = time.monotonic()
    while ends:
        batch = consumer.poll(timeout_ms=200)
        if batch:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > _SILENCE_TIMEOUT_S:
            raise BrokerError("the broker gives no more records", where=next(iter(ends)).topic)
        for partition, records in batch.items():
            for record in records:
                if record.offset < ends.get(partition, 0):
                    yield Scanned(
                        partition.partition, record.offset, record.timestamp, record.value
                    )
        for partition in list(ends):
            # The position, not the last record: offsets may have gaps at the end.
            if consumer.position(partition) >= ends[partition]:
                del ends[partition]
                consumer.pause(partition)
