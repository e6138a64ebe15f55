"""Measures how long a post takes from being posted to its label's arrival, under steady load.

Poster and reader are this process; the worker is one of its own, started as a user starts it, so
that what is measured is the product and not two things on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

import msgspec

from models.null import NULL_PRESET
from stream.bench.load import bench_producer, bench_topics
from stream.bench.processes import run_on_fast_loop, running_worker
from stream.errors import TidegateError
from stream.kafka.client import aiokafka_config
from stream.records import decode_label
from stream.settings import Settings
from stream.topics import LABELS, POSTS

Report = Callable[[str], None]
Posts = Sequence[tuple[bytes, bytes]]
_PARTITIONS: Final = 4
#: The first posts of a level warm it up and do not count.
_WARM_UP: Final = 0.1
_LEAST_POSTS: Final = 100
#: The capacity is the median of this many floods of so many posts.
_FLOODS: Final = 3
_FLOOD_POSTS: Final = 3_000
#: The null model at the same rate needs no more time than this to show what the way costs.
_FLOOR_S: Final = 6.0
#: Until a worker has loaded its models and joined its group.
_START_S: Final = 90.0
#: Labels that come later than this after the time they were to take do not come.
_GRACE_S: Final = 60.0


class LatencyLevel(msgspec.Struct, frozen=True, kw_only=True):
    """From posted to read from the labels' topic, at a share of the capacity; medians of the rounds.

    `p99_ms_of_rounds` shows how far the rounds lie apart. `floor_p50_ms` and `floor_p99_ms` are the
    same with a model that answers at once: what broker, worker, poster and reader cost by
    themselves at this rate; `ratio` is that p50 to the model's, 1.0 the limit.
    """

    load: float
    posts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p99_ms_of_rounds: list[float]
    floor_p50_ms: float
    floor_p99_ms: float
    ratio: float


class LatencyBench(msgspec.Struct, frozen=True, kw_only=True):
    """Latency at several loads; `capacity` is what the worker labels at most, in posts a second."""

    levels: list[LatencyLevel]
    capacity: float
    rounds: int
    model: str
    broker: str


class Plan(NamedTuple):
    """What to measure: shares of the capacity, in turns, `rounds` times, `seconds` each.

    `capacity` is in posts a second, None: measure it. `events`: posts of each level, in place of
    `seconds`.
    """

    loads: Sequence[float]
    rounds: int
    seconds: float
    capacity: float | None = None
    events: int | None = None


class _Percentiles(NamedTuple):
    """In milliseconds."""

    p50: float
    p95: float
    p99: float


class _Found(NamedTuple):
    """What one worker gave: percentiles of each round by load, and the versions of its models."""

    capacity: float
    rounds: dict[float, list[_Percentiles]]
    model: str


def bench_latency(bootstrap: str, posts: Posts, plan: Plan, *, report: Report) -> LatencyBench:
    """Post at shares of the capacity and read the labels as they come.

    Args:
        bootstrap: the broker.
        posts: keys and values, used in turns.
        plan: loads and lengths.
        report: told of each step.

    Raises:
        TidegateError: the worker ended, or labels did not come in time.
    """
    found = _measure(bootstrap, posts, plan, {}, report)
    report("the same with a model that answers at once")
    floor_plan = plan._replace(
        rounds=1, seconds=min(plan.seconds, _FLOOR_S), capacity=found.capacity
    )
    floor = _measure(bootstrap, posts, floor_plan, {"models.preset": NULL_PRESET}, report)
    levels = []
    for load in plan.loads:
        rounds, lowest = found.rounds[load], floor.rounds[load][0]
        middle = _Percentiles(*(round(median(column), 1) for column in zip(*rounds, strict=True)))
        levels.append(
            LatencyLevel(
                load=load,
                posts_per_s=round(load * found.capacity, 1),
                p50_ms=middle.p50,
                p95_ms=middle.p95,
                p99_ms=middle.p99,
                p99_ms_of_rounds=[one.p99 for one in rounds],
                floor_p50_ms=lowest.p50,
                floor_p99_ms=lowest.p99,
                ratio=round(lowest.p50 / middle.p50, 3),
            )
        )
    return LatencyBench(
        levels=levels,
        capacity=round(found.capacity, 1),
        rounds=plan.rounds,
        model=found.model,
        broker=bootstrap,
    )


def _measure(
    bootstrap: str, posts: Posts, plan: Plan, overrides: dict[str, Any], report: Report
) -> _Found:
    """All rounds with one worker, so that neither it nor the broker is cold in any but the first."""
    settled = {"kafka.partitions": _PARTITIONS, "log.level": "warning", **overrides}
    with bench_topics(bootstrap, settled) as settings, running_worker(settings) as worker:
        return run_on_fast_loop(_rounds(settings, worker, posts, plan, report))


async def _rounds(
    settings: Settings,
    worker: subprocess.Popen[bytes],
    posts: Posts,
    plan: Plan,
    report: Report,
) -> _Found:
    rounds: dict[float, list[_Percentiles]] = {load: [] for load in plan.loads}
    async with _client(settings, worker, posts) as client:
        # Until the worker has joined its group posts would only queue up, and what is measured
        # would be the queue.
        await client.flood(settings.kafka.partitions, _START_S)
        capacity = plan.capacity
        if capacity is None:
            report("capacity")
            floods = [await client.flood(_FLOOD_POSTS, _START_S) for _ in range(_FLOODS)]
            capacity = median(floods)
        for number in range(plan.rounds):
            for load, found in rounds.items():
                rate = load * capacity
                count = max(_LEAST_POSTS, plan.events or int(rate * plan.seconds))
                report(
                    f"round {number + 1} of {plan.rounds}: {load:.0%} of {capacity:,.0f} posts/s"
                )
                latencies = await client.steady(count, rate)
                cuts = quantiles(latencies[int(count * _WARM_UP) :], n=100)
                found.append(_Percentiles(*(round(cuts[n], 1) for n in (49, 94, 98))))
        return _Found(capacity, rounds, client.model)


class _Client:
    """Posts, and reads the labels; the keys say which belongs to which."""

    def __init__(
        self,
        settings: Settings,
        worker: subprocess.Popen[bytes],
        posts: Posts,
        producer: Any,
        consumer: Any,
    ) -> None:
        self.model = ""
        self._worker, self._posts = worker, posts
        self._producer, self._consumer = producer, consumer
        self._topic = POSTS.full_name(settings.kafka.topic_prefix)
        self._partitions = settings.kafka.partitions
        self._sent = 0
        self._sent_at: dict[bytes, float] = {}
        self._latencies: list[float] = []

    async def flood(self, count: int, within_s: float) -> float:
        """Post all at once; how many labels came a second, the first tenth left out.

        Raises:
            TidegateError: they did not come in time, or the worker ended.
        """
        self._latencies.clear()
        async with self._patience(count, within_s):
            for _ in range(count):
                await self._post()
            await self._read(int(count * _WARM_UP))
            begun, before = time.perf_counter(), len(self._latencies)
            await self._read(count)
        return (count - before) / max(time.perf_counter() - begun, 1e-9)

    async def steady(self, count: int, rate: float) -> list[float]:
        """Post so many, `rate` a second; milliseconds from `send` to the label's arrival, of each.

        Raises:
            TidegateError: labels did not come in time, or the worker ended.
        """
        self._latencies.clear()
        async with self._patience(count, count / rate * 4 + _GRACE_S):
            reading = asyncio.create_task(self._read(count))
            try:
                begun = time.perf_counter()
                for number in range(count):
                    wait = number / rate - (time.perf_counter() - begun)
                    if wait > 0:
                        await asyncio.sleep(wait)
                    await self._post()
                await reading
            finally:
                reading.cancel()
        return list(self._latencies)

    async def _post(self) -> None:
        key = b"%d" % self._sent
        self._sent_at[key] = time.perf_counter()
        await self._producer.send(
            self._topic,
            self._posts[self._sent % len(self._posts)][1],
            key=key,
            partition=self._sent % self._partitions,
        )
        self._sent += 1

    async def _read(self, until: int) -> None:
        while len(self._latencies) < until:
            fetched = await self._consumer.getmany(timeout_ms=1000)
            now = time.perf_counter()
            for records in fetched.values():
                for record in records:
                    # None: a label that came twice, which a worker may send.
                    if (sent_at := self._sent_at.pop(record.key, None)) is not None:
                        self._latencies.append((now - sent_at) * 1000)
                if not self.model:
                    used = decode_label(records[0].value).models.values()
                    self.model = "/".join(sorted({ref.version for ref in used}))
            if not fetched and self._worker.poll() is not None:
                raise TidegateError("the worker ended before it had labelled the posts")

    @contextlib.asynccontextmanager
    async def _patience(self, count: int, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as exc:
            raise TidegateError(
                f"{len(self._latencies)} of {count} labels came within {seconds:.0f} s",
                hint="is the load more than the machine labels? Name a smaller one: --capacity",
            ) from exc


@contextlib.asynccontextmanager
async def _client(
    settings: Settings, worker: subprocess.Popen[bytes], posts: Posts
) -> AsyncIterator[_Client]:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    kafka = settings.kafka
    consumer = AIOKafkaConsumer(**aiokafka_config(kafka), auto_offset_reset="earliest")
    await consumer.start()
    try:
        topic = LABELS.full_name(kafka.topic_prefix)
        consumer.assign([TopicPartition(topic, n) for n in range(kafka.partitions)])
        async with bench_producer(settings) as producer:
            yield _Client(settings, worker, posts, producer, consumer)
    finally:
        await consumer.stop()
