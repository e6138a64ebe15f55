"""Puts records on the topics and reads back everything that came of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from stream.kafka.client import aiokafka_config
from stream.kafka.offsets import offset_ranges
from stream.settings import KafkaSettings
from stream.topics import POSTS, Topic
from tests.chaos.posts import Sent


async def send(kafka: KafkaSettings, sent: Iterable[Sent], *, per_s: float | None = None) -> None:
    """Send the records to `posts`, record n to partition n modulo their number."""
    topic = POSTS.full_name(kafka.topic_prefix)
    async with _producer(kafka) as producer:
        begun, pending = asyncio.get_running_loop().time(), []
        for n, record in enumerate(sent):
            pending.append(
                await producer.send(
                    topic, record.value, key=record.key, partition=record.number % kafka.partitions
                )
            )
            if per_s is not None:
                ahead = n / per_s - (asyncio.get_running_loop().time() - begun)
                if ahead > 0.01:
                    await asyncio.sleep(ahead)
        await producer.flush()
        await asyncio.gather(*pending)


@contextlib.asynccontextmanager
async def _producer(kafka: KafkaSettings) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all", linger_ms=5)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def read_all(kafka: KafkaSettings, topic: Topic) -> list[Any]:
    """Every record of a topic up to its end, in order within each partition."""
    name = topic.full_name(kafka.topic_prefix)
    partitions = [(name, number) for number in range(kafka.partitions)]
    ranges = await asyncio.to_thread(offset_ranges, kafka, partitions)
    left = {TopicPartition(*p): r.end for p, r in ranges.items() if r.end > r.first}
    found: list[Any] = []
    if not left:
        return found
    consumer = AIOKafkaConsumer(**aiokafka_config(kafka), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(list(left))
        await consumer.seek_to_beginning(*left)
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                found.extend(records)
                if partition in left and records[-1].offset + 1 >= left[partition]:
                    del left[partition]
    finally:
        await consumer.stop()
    return found


async def count_all(kafka: KafkaSettings, *topics: Topic) -> int:
    """How many records the topics hold."""
    partitions = [
        (t.full_name(kafka.topic_prefix), number)
        for t in topics
        for number in range(kafka.partitions)
    ]
    ranges = await asyncio.to_thread(offset_ranges, kafka, partitions)
    return sum(r.end - r.first for r in ranges.values())
