"""Where partitions begin and end.

The end is taken from a fetch's high watermark and not from ListOffsets alone: the embedded broker
answers ListOffsets with the *first* offset of its last batch plus one, which is too low whenever
that batch holds more than one record. Apache Kafka gives the same answer to both questions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.ledger import Partition
from stream.settings import KafkaSettings

_TIMEOUT_S = 10.0


class OffsetRange(NamedTuple):
    """Offsets `first` up to, not including, `end`."""

    first: int
    end: int


def offset_ranges(
    kafka: KafkaSettings, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], OffsetRange]:
    """First and end offset of each (topic, partition).

    Raises:
        BrokerError: the broker does not answer, or does not know one of them.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    wanted = [TopicPartition(topic, partition) for topic, partition in partitions]
    if not wanted:
        return {}
    try:
        consumer = KafkaConsumer(
            **kafka_python_config(kafka),
            enable_auto_commit=False,
            # A fetch here is a question for the high watermark; its records are of no interest.
            fetch_max_wait_ms=1,
            max_partition_fetch_bytes=1,
        )
        with contextlib.closing(consumer):
            consumer.assign(wanted)
            first = consumer.beginning_offsets(wanted)
            end = dict(consumer.end_offsets(wanted))
            not_empty = [partition for partition in wanted if end[partition] > first[partition]]
            end.update(_high_watermarks(consumer, not_empty, end))
    except KafkaError as exc:
        raise BrokerError(f"the offsets cannot be read: {reason_of(exc)}") from exc
    return {(p.topic, p.partition): OffsetRange(first[p], end[p]) for p in wanted}


def partition_ends(kafka: KafkaSettings, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The end of each partition; errors as of `offset_ranges`."""
    return {Partition(*p): r.end for p, r in offset_ranges(kafka, partitions).items()}


def _high_watermarks(consumer: Any, partitions: list[Any], at: dict[Any, int]) -> dict[Any, int]:
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, at[partition])
    found: dict[Any, int] = {}
    deadline = time.monotonic() + _TIMEOUT_S
    while len(found) < len(partitions):
        if time.monotonic() > deadline:
            missing = next(p for p in partitions if p not in found)
            raise BrokerError(
                "the broker does not tell where the partition ends",
                where=f"{missing.topic}[{missing.partition}]",
            )
        consumer.poll(timeout_ms=50)
        for partition in partitions:
            watermark = consumer.highwater(partition)
            if watermark is not None and partition not in found:
                found[partition] = watermark
                consumer.pause(partition)
    return found
