"""New records of the delivery log, as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import offset_ranges
from stream.outcomes import Delivery, decode_delivery
from stream.settings import KafkaSettings
from stream.topics import DELIVERIES


def new_deliveries(kafka: KafkaSettings, wanted: Callable[[Delivery], bool]) -> Iterator[Delivery]:
    """What is written from now on; never ends by itself.

    Raises:
        BrokerError: the broker does not answer, or goes away.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    topic = DELIVERIES.full_name(kafka.topic_prefix)
    try:
        consumer = KafkaConsumer(**kafka_python_config(kafka), enable_auto_commit=False)
        with contextlib.closing(consumer):
            numbers = consumer.partitions_for_topic(topic) or set()
            ranges = offset_ranges(kafka, [(topic, number) for number in numbers])
            partitions = {
                TopicPartition(*partition): each.end for partition, each in ranges.items()
            }
            consumer.assign(list(partitions))
            for partition, end in partitions.items():
                consumer.seek(partition, end)
            while True:
                for records in consumer.poll(timeout_ms=500).values():
                    for record in records:
                        with contextlib.suppress(msgspec.DecodeError):
                            delivery = decode_delivery(record.value or b"")
                            if wanted(delivery):
                                yield delivery
    except KafkaError as exc:
        raise BrokerError(f"the log cannot be read: {reason_of(exc)}", where=topic) from exc
