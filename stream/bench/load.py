"""Fills a broker's topics for one run of a benchmark, and takes them away again."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from stream.errors import SourceError
from stream.kafka.admin import open_admin
from stream.kafka.client import aiokafka_config
from stream.kafka.embedded import EmbeddedBroker
from stream.records import encode
from stream.settings import Settings, load_settings
from stream.sources.files import FileSource, PostLine
from stream.topics import CATALOGUE, POSTS

#: Posts that benchmarks use when no file is named: the demo's.
DEFAULT_POSTS = Path(__file__).parent.parent / "demo" / "demo_feed.jsonl"


def read_posts(path: str | None) -> list[tuple[bytes, bytes]]:
    """Key and value of each post of a file.

    Raises:
        SourceError: there is none.
    """
    source = FileSource(path or str(DEFAULT_POSTS))
    posts = [(line.post.key, encode(line.post)) for line in source if isinstance(line, PostLine)]
    if not posts:
        raise SourceError("no posts in it", where=path)
    return posts


@contextlib.contextmanager
def bench_broker(bootstrap: str | None) -> Iterator[str]:
    """The address of the broker to measure on: the named one, or an embedded one for the run."""
    if bootstrap is not None:
        yield bootstrap
        return
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@contextlib.contextmanager
def bench_topics(bootstrap: str, overrides: dict[str, Any]) -> Iterator[Settings]:
    """Settings with topics and a group of their own; the topics are deleted afterwards."""
    name = f"bench-{secrets.token_hex(4)}"
    settings = load_settings(
        {
            "kafka.bootstrap": bootstrap,
            "kafka.topic_prefix": f"{name}.",
            "kafka.group": name,
            "kafka.session_timeout_s": 6.0,
            **overrides,
        }
    )
    with open_admin(settings.kafka) as admin:
        admin.create_missing()
    try:
        yield settings
    finally:
        with contextlib.suppress(Exception):  # a broker that cannot delete keeps them
            _delete(settings)


def _delete(settings: Settings) -> None:
    from kafka import KafkaAdminClient

    from stream.kafka.client import kafka_python_config

    admin = KafkaAdminClient(**kafka_python_config(settings.kafka))
    try:
        admin.delete_topics([t.full_name(settings.kafka.topic_prefix) for t in CATALOGUE])
    finally:
        admin.close()


def fill(settings: Settings, posts: Sequence[tuple[bytes, bytes]], events: int) -> None:
    """Put `events` posts on the topic, the file over and over, evenly over the partitions."""
    asyncio.run(_fill(settings, posts, events))


async def _fill(settings: Settings, posts: Sequence[tuple[bytes, bytes]], events: int) -> None:
    kafka = settings.kafka
    topic = POSTS.full_name(kafka.topic_prefix)
    async with bench_producer(settings) as producer:
        source = iter(islice(cycle(posts), events))
        pending = []
        partition = 0
        while part := list(islice(source, 500)):
            batch = producer.create_batch()
            for key, value in part:
                if batch.append(timestamp=None, key=key, value=value) is None:
                    pending.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value)
            pending.append(await producer.send_batch(batch, topic, partition=partition))
            partition = (partition + 1) % kafka.partitions
        await asyncio.gather(*pending)


@contextlib.asynccontextmanager
async def bench_producer(settings: Settings) -> AsyncIterator[Any]:
    """A plain producer with batches as large as the worker's."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        **aiokafka_config(settings.kafka), acks="all", max_batch_size=512 * 1024
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
