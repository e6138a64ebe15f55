"""What stock Faust does with posts when something fails, and what the worker does instead.

Each test runs both on a broker; the table in docs/reliability.md says which issue of Faust each
is. The bookkeeping of offsets has its own pairs in kafka/test_transport.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faust
import numpy as np
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from models.errors import ModelRuntimeError
from models.null import NullScorer
from models.scores import Prepared
from stream.app import create_app
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.records import Post, decode_label, encode
from stream.settings import KafkaSettings, Settings
from stream.topics import DEAD_LETTERS, LABELS, POSTS
from tests.apache_kafka import ApacheKafka
from tests.chaos.posts import Sent
from tests.chaos.traffic import read_all, send
from tests.chaos.trials import committed
from tests.conftest import topics_on

# An app that crashed is ended with its process; here its sockets are the collector's to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected", "elsewhere"),
]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stock app makes a folder of its own in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def collected() -> Iterator[None]:
    """What a crashed app leaves is collected before the next test."""
    yield
    gc.collect()


def _posts(count: int, first: int = 0) -> list[Sent]:
    return [
        Sent(n, b"author", encode(Post(id=f"p{n}", text=f"a calm day, number {n}")), "label")
        for n in range(first, first + count)
    ]


class _Broken(NullScorer):
    """Fails on everything, as a model file on a broken disk would."""

    def infer(self, prepared: Prepared) -> np.ndarray[Any, Any]:  # noqa: ARG002
        raise ModelRuntimeError("the disk is gone")


def _stock(kafka: KafkaSettings, **settings: Any) -> Any:
    return faust.App(
        kafka.group,
        broker=f"kafka://{kafka.bootstrap}",
        **{
            "env": {},
            "web_enabled": False,
            "topic_disable_leader": True,
            "topic_allow_declare": False,
            "value_serializer": "raw",
            "broker_commit_interval": 0.2,
            "broker_session_timeout": 6.0,
            "broker_heartbeat_interval": 1.0,
            "stream_wait_empty": False,
            **settings,
        },
    )


def _ours(kafka: KafkaSettings, scorer: NullScorer | None = None) -> Any:
    settings = Settings(kafka=kafka)
    return create_app(settings, scorer or NullScorer())


async def _idle(stream: Any) -> None:
    async for _ in stream:
        pass


@contextlib.asynccontextmanager
async def _started(app: Any) -> AsyncIterator[Any]:
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def _until(condition: Callable[[], bool], timeout_s: float = 40) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what it waits for is in another thread
            await asyncio.sleep(0.02)


async def _until_committed(kafka: KafkaSettings, count: int) -> None:
    async with asyncio.timeout(40):
        while await committed(kafka) < count:  # noqa: ASYNC110 - the broker does not say
            await asyncio.sleep(0.1)


@pytest.fixture
def new_topics(embedded_broker: EmbeddedBroker) -> Callable[..., KafkaSettings]:
    """Topics on the embedded broker: what is shown here is Faust's doing, not the broker's."""
    return partial(topics_on, embedded_broker)


async def test_a_batch_that_failed_is_not_acknowledged(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    """Stock `take` acknowledges in a `finally`: what the agent failed on is committed."""
    stock = new_topics(partitions=1)
    await send(stock, _posts(40))
    app = _stock(stock)
    topic = app.topic(POSTS.full_name(stock.topic_prefix))

    @app.agent(topic)  # type: ignore[untyped-decorator] # Faust has no types for it
    async def label(stream: Any) -> None:
        async for _ in stream.take(40, within=5):
            raise ModelRuntimeError("the disk is gone")

    async with _started(app):
        await _until_committed(stock, 40)

    ours = new_topics(partitions=1)
    await send(ours, _posts(40))
    app = _ours(ours, _Broken())
    async with _started(app):
        await _until(lambda: app.crashed)
    assert await committed(ours) == 0


async def test_an_agent_that_failed_does_not_go_on_over_a_hole(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    """Stock Faust starts the agent again and reads on: what it failed on never comes back."""
    stock = new_topics(partitions=1)
    await send(stock, _posts(40))
    app = _stock(stock)
    topic = app.topic(POSTS.full_name(stock.topic_prefix))
    failed: list[bytes] = []
    seen: list[bytes] = []

    @app.agent(topic)  # type: ignore[untyped-decorator] # Faust has no types for it
    async def label(stream: Any) -> None:
        async for events in stream.noack_take(10, within=1):
            if not failed:
                failed.extend(event.value for event in events)
                raise ModelRuntimeError("a hiccup")
            seen.extend(event.value for event in events)

    async with _started(app):
        await _until(lambda: len(seen) + len(failed) >= 40)
        assert not app.crashed
        assert not set(failed) & set(seen)

    ours = new_topics(partitions=1)
    await send(ours, _posts(40))
    app = _ours(ours, _Broken())
    async with _started(app):
        await _until(lambda: app.crashed)
    assert not await read_all(ours, LABELS)


async def test_a_record_that_cannot_be_decoded_is_not_lost(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    """Stock Faust's serializer drops and acknowledges it; nobody ever hears of it."""
    poison = [Sent(10, b"author", b"not json", "not-json"), *_posts(1, first=11)]
    stock = new_topics(partitions=1)
    await send(stock, [*_posts(10), *poison])
    app = _stock(stock, value_serializer="json")
    topic = app.topic(POSTS.full_name(stock.topic_prefix), value_serializer="json")
    seen: list[Any] = []

    @app.agent(topic)  # type: ignore[untyped-decorator] # Faust has no types for it
    async def label(stream: Any) -> None:
        async for value in stream:
            seen.append(value)  # noqa: PERF401 - the loop does not end

    async with _started(app):
        await _until_committed(stock, 12)
    assert len(seen) == 11

    ours = new_topics(partitions=1)
    await send(ours, [*_posts(10), *poison])
    app = _ours(ours)
    async with _started(app):
        await _until_committed(ours, 12)
    assert len(await read_all(ours, LABELS)) == 11
    assert len(await read_all(ours, DEAD_LETTERS)) == 1


@pytest.mark.kafka
async def test_a_label_that_the_broker_refuses_holds_the_commit(apache_kafka: ApacheKafka) -> None:
    """Stock Faust flushes before it commits, and does not look whether that went well."""
    stock, ours = (topics_on(apache_kafka, partitions=1) for _ in range(2))
    for kafka in (stock, ours):
        _take_at_most(kafka, 600)
        await send(kafka, _posts(3))
    app = _stock(stock)
    posts = app.topic(POSTS.full_name(stock.topic_prefix))
    labels = app.topic(LABELS.full_name(stock.topic_prefix))
    sent = 0

    @app.agent(posts)  # type: ignore[untyped-decorator] # Faust has no types for it
    async def label(stream: Any) -> None:
        nonlocal sent
        async for _ in stream:
            await labels.send(value=b"x" * 2000)
            sent += 1

    async with _started(app):
        await _until_committed(stock, 3)
    assert not await read_all(stock, LABELS)
    assert not await read_all(stock, DEAD_LETTERS)

    app = _ours(ours)
    async with _started(app):
        await _until_committed(ours, 3)
    assert not await read_all(ours, LABELS)
    assert len(await read_all(ours, DEAD_LETTERS)) == 3


def _take_at_most(kafka: KafkaSettings, max_bytes: int) -> None:
    admin = KafkaAdminClient(**kafka_python_config(kafka))
    try:
        admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC,
                    LABELS.full_name(kafka.topic_prefix),
                    configs={"max.message.bytes": str(max_bytes)},
                )
            ]
        )
    finally:
        admin.close()


async def test_outputs_do_not_wait_in_fausts_buffer(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    """`send_soon` holds the streams up when more than 100 messages are pending."""
    stock = new_topics(partitions=1)
    app = _stock(stock)
    app.agent(app.topic(POSTS.full_name(stock.topic_prefix)))(_idle)
    labels = app.topic(LABELS.full_name(stock.topic_prefix))
    async with _started(app):
        for _ in range(150):
            labels.send_soon(value=b"{}")
        assert app.producer.buffer.size > app.producer.buffer.max_messages
        await app.producer.flush()

    ours = new_topics(partitions=1)
    await send(ours, _posts(300))
    app = _ours(ours)
    most = 0
    async with _started(app):
        async with asyncio.timeout(40):
            while await committed(ours) < 300:
                most = max(most, app.producer.buffer.size)
                await asyncio.sleep(0.01)
        assert app.monitor.messages_sent == 0  # every label went as part of a batch of ours
    assert most == 0


async def test_nothing_is_written_to_disk(
    new_topics: Callable[..., KafkaSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust keeps a folder per app, and RocksDB in it, whose locks outlive a rebalance (#73, #91)."""
    kafka = new_topics(partitions=1)
    await send(kafka, _posts(10))
    monkeypatch.chdir(tmp_path)
    stock = _stock(kafka)
    stock.topic(POSTS.full_name(kafka.topic_prefix))
    async with _started(stock):
        assert _files(tmp_path)

    for path in reversed(_files(tmp_path)):
        path.rmdir()
    async with _started(_ours(kafka)):
        await _until_committed(kafka, 10)
        assert not _files(tmp_path)


def _files(folder: Path) -> Sequence[Path]:
    return sorted(folder.rglob("*"))


async def test_a_post_read_twice_gives_one_label_id(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    """Instead of `exactly_once`, which crashes and doubles on a rebalance (faust#323, #517)."""
    kafka = new_topics(partitions=1)
    await send(kafka, _posts(20))
    app = _ours(kafka)
    assert app.conf.processing_guarantee.value == "at_least_once"
    async with _started(app):
        await _until_committed(kafka, 20)
        await app.consumer.seek(next(iter(app.consumer.assignment())), 0)
        async with asyncio.timeout(40):
            while len(await read_all(kafka, LABELS)) < 40:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
    ids = [decode_label(record.value).label_id for record in await read_all(kafka, LABELS)]
    assert len(set(ids)) == 20
