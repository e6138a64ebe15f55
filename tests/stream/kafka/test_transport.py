"""The batched transport on real brokers, and beside it the stock one where that loses posts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import faust
import mode
import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from yarl import URL

from stream.app import TidegateApp
from stream.kafka.fetching import GATHER_MS
from stream.kafka.ledger import Partition, Span
from stream.kafka.offsets import partition_ends
from stream.kafka.transport import BatchedConsumer, BatchedTransport, BatchOptions
from stream.settings import KafkaSettings
from stream.topics import POSTS
from tests.chaos.posts import records
from tests.chaos.traffic import send

ConsumerOf = Callable[[type[Any]], Any]


def _app(transport: type[Any], kafka: KafkaSettings | None = None, **settings: Any) -> Any:
    url = [URL(f"kafka://{kafka.bootstrap if kafka else '127.0.0.1:1'}")]
    app = TidegateApp(
        kafka.group if kafka else "nobody",
        broker=url,
        env={},
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
        topic_disable_leader=True,
        topic_allow_declare=False,
        agent_supervisor=mode.CrashingSupervisor,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        **{"broker_commit_interval": 0.2, **settings},
    )
    if issubclass(transport, BatchedTransport):
        topic = POSTS.full_name(kafka.topic_prefix) if kafka else "posts"
        options = BatchOptions(
            topics=frozenset({topic}), span_records=100, most_records=1000, drain_timeout_s=0.5
        )
        app.transport = transport(url, app, options)
    else:
        app.transport = transport(url, app)
    return app


@pytest.fixture
def consumer_of() -> Iterator[Callable[[type[Any]], Any]]:
    """Makes consumers that are not connected: their books can be looked at without a broker."""
    made: list[Any] = []

    def make(transport: type[Any]) -> Any:
        app = _app(transport)
        app.topics._acking_topics |= {"posts", "ordinary"}
        app.consumer.assignment = lambda: {TP("posts", 0), TP("ordinary", 0)}
        made.append(app.consumer)
        return app.consumer

    yield make
    for consumer in made:
        consumer._thread.thread_loop.close()


def _message(topic: str, offset: int, generation: int = 0) -> Any:
    message = faust.types.Message(topic, 0, offset, 0.0, 0, [], None, b"", None, 0, 0, TP(topic, 0))
    message.generation_id = generation
    return message


BOTH = pytest.mark.parametrize(
    ("transport", "loses"), [(driver.Transport, True), (BatchedTransport, False)]
)


@BOTH
async def test_a_commit_does_not_pass_an_unacknowledged_head(
    consumer_of: ConsumerOf, transport: type, loses: bool
) -> None:
    """faust#606: with no commit yet, stock Faust commits past the first record."""
    consumer = consumer_of(transport)
    if isinstance(consumer, BatchedConsumer):
        consumer._handed_out[TP("ordinary", 0)] = [4, 5, 6]
    for offset in (5, 6):
        consumer.ack(_message("ordinary", offset))
    assert (consumer._new_offset(TP("ordinary", 0)) == 7) is loses


@BOTH
async def test_offsets_never_handed_out_are_not_acknowledged_by_themselves(
    consumer_of: ConsumerOf, transport: type, loses: bool
) -> None:
    """Stock Faust takes a jump of offsets, as a batch is one, for a gap to be committed over."""
    consumer, tp = consumer_of(transport), TP("posts", 0)
    consumer._committed_offset[tp] = 1
    if isinstance(consumer, BatchedConsumer):
        consumer.ledger.open([Span(Partition(*tp), [], 0, 100)])
    await consumer._add_gap(tp, 1, 99)
    consumer.ack(_message("posts", 100))
    assert (consumer._new_offset(tp) is not None) is loses


@BOTH
async def test_a_message_of_a_past_assignment_cannot_be_acknowledged(
    consumer_of: ConsumerOf, transport: type, loses: bool
) -> None:
    """faust#502: what was buffered before a rebalance is skipped, and stock Faust acks it."""
    consumer, tp = consumer_of(transport), TP("ordinary", 0)
    consumer.app.consumer_generation_id = 2
    if isinstance(consumer, BatchedConsumer):
        consumer._handed_out[tp] = [0]
    consumer.ack(_message("ordinary", 0, generation=1))
    assert (consumer._new_offset(tp) == 1) is loses


@BOTH
async def test_a_refused_commit_is_not_booked(
    consumer_of: ConsumerOf, transport: type, loses: bool
) -> None:
    consumer, tp = consumer_of(transport), TP("posts", 0)

    async def refused(_: Any) -> bool:
        return False

    async def flushed() -> None: ...

    consumer._commit = refused
    consumer.app.producer.flush = flushed
    consumer._committed_offset[tp] = 3
    assert not await consumer._commit_offsets({tp: 9})
    assert (consumer._committed_offset[tp] == 9) is loses


async def test_the_acks_of_an_ordinary_topic_are_committed_in_order(
    consumer_of: ConsumerOf,
) -> None:
    consumer, tp = consumer_of(BatchedTransport), TP("ordinary", 0)
    consumer._handed_out[tp] = [3, 4, 9, 10]  # a compacted topic has jumps
    for offset in (3, 9, 4):
        consumer.ack(_message("ordinary", offset))
    assert consumer._new_offset(tp) == 10
    assert consumer._new_offset(tp) is None
    consumer.ack(_message("ordinary", 10))
    assert consumer._new_offset(tp) == 11
    assert not consumer._acked[tp]
    assert not consumer._acked_index[tp]


@pytest.mark.parametrize(
    ("since_s", "records_of", "busy", "gathers"),
    [
        (9.0, {"posts": 1}, False, False),
        (9.0, {"posts": 2}, False, True),
        (9.0, {"posts": 1, "ordinary": 1}, False, True),
        (0.0, {"posts": 1}, False, True),
        (9.0, {"posts": 1}, True, True),
        (0.0, {}, True, False),
    ],
    ids=["alone", "two", "two topics", "one after the other", "would wait", "nothing"],
)
async def test_a_fetch_gathers_when_there_is_company(
    consumer_of: ConsumerOf,
    since_s: float,
    records_of: dict[str, int],
    busy: bool,
    gathers: bool,
) -> None:
    consumer = consumer_of(BatchedTransport)
    consumer.transport.busy = lambda: busy
    consumer._fetched_at = time.monotonic() - since_s
    found = [
        (
            TP(topic, 0),
            [Span(Partition(topic, 0), cast("Any", [None] * count), 0, 0)]
            if topic == "posts"
            else [None] * count,
        )
        for topic, count in records_of.items()
    ]
    consumer._note(found)
    assert consumer._gather is gathers


# -- on brokers


@contextlib.asynccontextmanager
async def _running(
    app: Any, agent: Callable[[Any], Any], kafka: KafkaSettings
) -> AsyncIterator[Any]:
    topic = app.topic(
        POSTS.full_name(kafka.topic_prefix), key_serializer="raw", value_serializer="raw"
    )
    app.agent(topic, name="under-test")(agent)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def _until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what it waits for is in another thread
            await asyncio.sleep(0.02)


async def test_records_come_as_one_event_per_partition_and_fetch(topics: KafkaSettings) -> None:
    await send(topics, records(900))
    events: list[list[Span]] = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            events.append(event.value)  # noqa: PERF401 - the loop does not end

    async with _running(_app(BatchedTransport, topics), agent, topics):
        await _until(lambda: sum(len(s.records) for e in events for s in e) == 900)
    for spans in events:
        assert len({span.partition for span in spans}) == 1
        offsets = [r.offset for span in spans for r in span.records]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
        assert all(len(span.records) <= 100 for span in spans)
    assert len(events) < 90
    seen = {(s.partition, r.offset) for e in events for s in e for r in s.records}
    assert len(seen) == 900


async def test_the_broker_gathers_while_records_come_one_after_the_other(
    topics: KafkaSettings,
) -> None:
    async def agent(stream: Any) -> None:
        async for _ in stream.noack().events():
            pass

    app = _app(BatchedTransport, topics)
    async with _running(app, agent, topics):
        await _until(lambda: app.consumer.polls > 2)
        fetcher = app.consumer._thread._consumer._fetcher
        alone = (fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms)
        assert alone == (1, 250)
        await send(topics, records(50))
        await _until(lambda: fetcher._fetch_min_bytes > 1)
        assert fetcher._fetch_max_wait_ms == GATHER_MS
        # A fetch that finds nothing ends it: whoever comes next comes alone.
        await _until(lambda: (fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms) == alone)


async def test_no_more_is_handed_out_than_the_bound(topics: KafkaSettings) -> None:
    """Back-pressure: an agent that confirms nothing gets `most_records` and no more."""
    await send(topics, records(5000))
    got: list[Span] = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            got.extend(event.value)

    app = _app(BatchedTransport, topics)
    async with _running(app, agent, topics):
        await _until(lambda: app.consumer.ledger.records >= 1000)
        polls = app.consumer.polls
        await _until(lambda: app.consumer.polls > polls + 1)
        assert sum(len(span.records) for span in got) == 1000
        for span in got:
            app.consumer.ledger.take(span)
        app.consumer.ledger.confirm(list(got))
        await _until(lambda: sum(len(span.records) for span in got) == 2000)


@BOTH
async def test_going_back_without_a_commit_goes_to_the_beginning(
    topics: KafkaSettings, transport: type, loses: bool
) -> None:
    """aiokafka's `seek_to_committed` leaves a partition where it is when nothing is committed."""
    await send(topics, records(40))
    seen: list[tuple[int, int]] = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            if isinstance(event.value, list):
                seen.extend(
                    (s.partition.partition, r.offset) for s in event.value for r in s.records
                )
            else:
                seen.append((event.message.partition, event.message.offset))

    # Stock Faust would wait for ever for what the agent never acknowledges.
    app = _app(transport, topics, stream_wait_empty=not loses)
    async with _running(app, agent, topics):
        await _until(lambda: len(seen) == 40)
        await app.consumer.perform_seek()
        if loses:
            await send(topics, records(4))
            await _until(lambda: len(seen) == 44)
            assert len(set(seen)) == 44  # only the new ones came
        else:
            await _until(lambda: len(seen) == 80)
            assert sorted(seen[40:]) == sorted(seen[:40])


async def test_confirmed_spans_are_committed_in_order_and_a_hole_stops_the_commit(
    topics: KafkaSettings,
) -> None:
    await send(topics, records(1200))
    got: list[Span] = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            got.extend(event.value)

    app = _app(BatchedTransport, topics)
    async with _running(app, agent, topics):
        await _until(lambda: sum(len(s.records) for s in got) == 1000)
        held = got[0]
        for span in got:
            app.consumer.ledger.take(span)
        app.consumer.ledger.confirm([span for span in got if span is not held])
        committed = app.consumer._committed_offset
        others = {span.partition for span in got} - {held.partition}
        await _until(lambda: all(committed[TP(*p)] for p in others))
        assert not committed[TP(*held.partition)]
        app.consumer.ledger.confirm([held])
        await _until(lambda: bool(committed[TP(*held.partition)]))


async def test_where_partitions_end_is_asked_of_a_fetch(topics: KafkaSettings) -> None:
    """The embedded broker's ListOffsets is too low behind a batch; recovery would end early."""
    await send(topics, records(400))
    app = _app(BatchedTransport, topics)
    app.transport.partition_ends = partial(partition_ends, topics)

    async def agent(stream: Any) -> None:
        async for _ in stream.noack().events():
            pass

    async with _running(app, agent, topics):
        tps = [TP(POSTS.full_name(topics.topic_prefix), n) for n in range(topics.partitions)]
        ends = await app.consumer.highwaters(*tps)
    assert ends == dict.fromkeys(tps, 100)


async def test_a_changelog_is_read_in_batches_and_owes_nothing(topics: KafkaSettings) -> None:
    await send(topics, records(300))
    got: list[Span] = []

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            got.extend(event.value)

    app = _app(BatchedTransport, topics)
    app.transport.options = replace(
        app.transport.options,
        topics=frozenset(),
        changelogs=frozenset({POSTS.full_name(topics.topic_prefix)}),
    )
    async with _running(app, agent, topics):
        await _until(lambda: sum(len(s.records) for s in got) == 300)
        assert app.consumer.ledger.records == 0
