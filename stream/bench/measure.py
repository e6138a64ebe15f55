"""Measures the stream: contestants in turns, the real model end to end, latency under load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import msgspec

from models.null import NULL_PRESET
from stream.bench.contestants import CONTESTANTS, run_worker_app
from stream.bench.load import bench_producer, bench_topics, fill
from stream.errors import TidegateError
from stream.kafka.client import aiokafka_config
from stream.settings import ENV_PREFIX, Settings
from stream.topics import LABELS, POSTS

_RUN_TIMEOUT_S: Final = 600.0
#: Stock Faust is tens of times slower: it gets this share of the posts.
_STOCK_SHARE: Final = 20
_STOCK_LEAST: Final = 5_000
Report = Callable[[str], None]
Posts = Sequence[tuple[bytes, bytes]]


class StreamBench(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second with a null model, medians; ratios of the worker to the others.

    `one_process` is the worker that scores in its own threads (`worker.scoring=threads`);
    `stock_faust` the agent of Faust's guide, with its models; `raw_faust` the same loop around our
    own decoder and encoder.
    """

    worker: float
    one_process: float
    aiokafka: float
    stock_faust: float
    raw_faust: float
    ratio_aiokafka: float
    ratio_stock: float
    ratio_raw: float
    events: int
    rounds: int
    cpu_us_per_post: dict[str, float]
    broker: str


class EndToEndBench(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second with the real model: topic to confirmed label, and scoring alone."""

    e2e: float
    scoring: float
    ratio: float
    events: int
    rounds: int
    model: str
    broker: str


class LatencyLevel(msgspec.Struct, frozen=True, kw_only=True):
    """From posted to read from the labels' topic, at a share of the capacity."""

    load: float
    posts_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class LatencyBench(msgspec.Struct, frozen=True, kw_only=True):
    """Latency at several loads; `capacity` is what the worker labels at most, in posts a second."""

    levels: list[LatencyLevel]
    capacity: float
    model: str
    broker: str


def bench_stream(
    bootstrap: str, posts: Posts, *, events: int, rounds: int, batch_posts: int, report: Report
) -> StreamBench:
    """Worker, plain aiokafka and Faust's two loops in turns, `rounds` times."""
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpu: dict[str, list[float]] = {name: [] for name in rates}
    for number in range(rounds):
        for name, found in rates.items():
            few = max(_STOCK_LEAST, events // _STOCK_SHARE) if name.endswith("faust") else events
            report(f"round {number + 1} of {rounds}: {name}")
            result = _contest(bootstrap, name, posts, few, batch_posts)
            found.append(result["posts"] / result["seconds"])
            cpu[name].append(result["cpu_s"] / result["posts"] * 1e6)
    middle = {name: median(found) for name, found in rates.items()}
    return StreamBench(
        worker=round(middle["worker"]),
        one_process=round(middle["one_process"]),
        aiokafka=round(middle["aiokafka"]),
        stock_faust=round(middle["stock_faust"]),
        raw_faust=round(middle["raw_faust"]),
        ratio_aiokafka=round(middle["worker"] / middle["aiokafka"], 3),
        ratio_stock=round(middle["worker"] / middle["stock_faust"], 1),
        ratio_raw=round(middle["worker"] / middle["raw_faust"], 1),
        events=events,
        rounds=rounds,
        cpu_us_per_post={name: round(median(found), 1) for name, found in cpu.items()},
        broker=bootstrap,
    )


def _contest(
    bootstrap: str, name: str, posts: Posts, events: int, batch_posts: int
) -> dict[str, float]:
    overrides = {
        "kafka.partitions": 4,
        "worker.batch_posts": batch_posts,
        "models.preset": NULL_PRESET,
    }
    with bench_topics(bootstrap, overrides) as settings:
        fill(settings, posts, events)
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", "stream.bench.contestants", name, str(events)],
                env=environment_of(settings),
                cwd=Path(__file__).resolve().parents[2],
                capture_output=True,
                text=True,
                timeout=_RUN_TIMEOUT_S,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            error = exc.stderr.decode() if isinstance(exc.stderr, bytes) else exc.stderr or ""
            raise TidegateError(f"the run of `{name}` failed: {error[-2000:]}") from exc
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a process that is to have these settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    for section, values in settings.model_dump(mode="json", exclude_defaults=True).items():
        for name, value in values.items():
            # pydantic masks a secret in its JSON: it is handed on as it is.
            shown = settings.kafka.password if name == "password" else None
            inherited[f"{ENV_PREFIX}{section}__{name}".upper()] = (
                shown.get_secret_value() if shown is not None else str(value)
            )
    return inherited


def bench_end_to_end(
    bootstrap: str, posts: Posts, *, events: int, rounds: int, report: Report
) -> EndToEndBench:
    """The worker's app with the real model beside its scoring path alone, in turns."""
    from stream.app import load_scorer
    from stream.records import decode_post

    texts = [decode_post(value).text or "" for _, value in posts]
    texts = [texts[n % len(texts)] for n in range(events)]
    e2e, scoring = [], []
    model = ""
    for number in range(rounds):
        with bench_topics(bootstrap, {"kafka.partitions": 4}) as settings:
            scorer = load_scorer(settings)
            model = "/".join(sorted({m.version for m in scorer.models.values()}))
            step = settings.worker.batch_posts
            report(f"round {number + 1} of {rounds}: scoring alone")
            begun = time.perf_counter()
            for start in range(0, events, step):
                scorer.score(texts[start : start + step])
            scoring.append(events / (time.perf_counter() - begun))
            report(f"round {number + 1} of {rounds}: end to end")
            fill(settings, posts, events)
            e2e.append(events / asyncio.run(run_worker_app(settings, events)).seconds)
    return EndToEndBench(
        e2e=round(median(e2e), 1),
        scoring=round(median(scoring), 1),
        ratio=round(median(e2e) / median(scoring), 3),
        events=events,
        rounds=rounds,
        model=model,
        broker=bootstrap,
    )


def bench_latency(
    bootstrap: str,
    posts: Posts,
    *,
    capacity: float,
    loads: Sequence[float],
    seconds: float,
    events: int | None = None,
    report: Report,
) -> LatencyBench:
    """Post at shares of the capacity and read the labels as they come.

    Args:
        bootstrap: the broker.
        posts: keys and values, used in turns.
        capacity: posts/s that are a load of 1.
        loads: shares of it.
        seconds: length of each level.
        events: posts of each level, instead.
        report: told of each step.
    """
    from stream.agents.label import prepare, release

    levels = []
    model = ""
    for load in loads:
        rate = load * capacity
        lasts_s = seconds if events is None else events / rate
        report(f"{load:.0%} of {capacity:,.0f} posts/s for {lasts_s:.0f} s")
        with bench_topics(bootstrap, {"kafka.partitions": 4}) as settings:
            scores = prepare(settings)
            model = "/".join(sorted({m.version for m in scores.models.values()}))
            try:
                found = asyncio.run(_latencies(settings, scores, posts, rate=rate, seconds=lasts_s))
            finally:
                release(scores)
        cuts = quantiles(found, n=100)
        levels.append(
            LatencyLevel(
                load=load,
                posts_per_s=round(rate, 1),
                p50_ms=round(cuts[49], 1),
                p95_ms=round(cuts[94], 1),
                p99_ms=round(cuts[98], 1),
            )
        )
    return LatencyBench(levels=levels, capacity=round(capacity, 1), model=model, broker=bootstrap)


async def _latencies(
    settings: Settings, scores: Any, posts: Posts, *, rate: float, seconds: float
) -> list[float]:
    """Milliseconds from `send` to the label's arrival; the first tenth, warming up, is left out.

    The clock starts when a post of every partition has come back as a label: until the worker has
    joined its group posts would only queue up, and what is measured would be the queue.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from stream.app import create_app

    kafka = settings.kafka
    app = create_app(settings, scores)
    await app.start()
    consumer = AIOKafkaConsumer(**aiokafka_config(kafka), auto_offset_reset="earliest")
    await consumer.start()
    topic = LABELS.full_name(kafka.topic_prefix)
    consumer.assign([TopicPartition(topic, n) for n in range(kafka.partitions)])
    events = max(100, int(rate * seconds))
    sent_at: dict[bytes, float] = {}
    latencies: list[float] = []

    async def read(until: int) -> None:
        while len(latencies) < until:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                now = time.perf_counter()
                latencies.extend((now - sent_at[record.key]) * 1000 for record in records)

    async def post(number: int) -> None:
        key = b"%d" % number
        sent_at[key] = time.perf_counter()
        await producer.send(
            POSTS.full_name(kafka.topic_prefix),
            posts[number % len(posts)][1],
            key=key,
            partition=number % kafka.partitions,
        )

    try:
        async with asyncio.timeout(seconds * 4 + 90), bench_producer(settings) as producer:
            for number in range(kafka.partitions):
                await post(number)
            await read(kafka.partitions)
            latencies.clear()
            reading = asyncio.create_task(read(events))
            begun = time.perf_counter()
            for number in range(events):
                wait = number / rate - (time.perf_counter() - begun)
                if wait > 0:
                    await asyncio.sleep(wait)
                await post(kafka.partitions + number)
            await reading
    finally:
        await consumer.stop()
        await app.stop()
    return latencies[events // 10 :]
