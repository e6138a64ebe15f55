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


def topic_ranges(kafka: KafkaSettings, topic: str) -> dict[int, OffsetRange]:
    """First and end offset of each partition of a topic; empty where there is no such topic.

    Raises:
        BrokerError: the broker does not answer.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(**kafka_python_config(kafka), enable_auto_commit=False)
        with contextlib.closing(consumer):
            numbers = consumer.partitions_for_topic(topic) or set()
    except KafkaError as exc:
        raise BrokerError(f"the topic cannot be read: {reason_of(exc)}", where=topic) from exc
    found = offset_ranges(kafka, [(topic, number) for number in numbers])
    return {partition: each for (_, partition), each in found.items()}


def scan(
    kafka: KafkaSettings, topic: str, places: Mapping[int, OffsetRange] | None = None
) -> Iterator[Scanned]:
    """The records of a topic between these offsets; default: all there are now.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    ranges = topic_ranges(kafka, topic) if places is None else places
    ends = {
        TopicPartition(topic, n): each.end for n, each in ranges.items() if each.end > each.first
    }
    if not ends:
        return
    try:
        consumer = KafkaConsumer(**kafka_python_config(kafka), enable_auto_commit=False)
        with contextlib.closing(consumer):
            consumer.assign(list(ends))
            for partition in ends:
                consumer.seek(partition, ranges[partition.partition].first)
            yield from _until(consumer, ends)
    except KafkaError as exc:
        raise BrokerError(f"the topic cannot be read: {reason_of(exc)}", where=topic) from exc


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
