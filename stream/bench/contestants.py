"""The ways from posts to labels that `bench stream` compares, each run in its own process.

`python -m stream.bench.contestants NAME EVENTS` with the settings in the environment; prints one
JSON object, `{"posts": ..., "seconds": ..., "cpu_s": ...}`. Both clocks run from the first post read to the last
offset committed, so that joining a group and loading code do not count. `worker`,
`aiokafka` and `raw_faust` write the same JSON, `stock_faust` the same less the post's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from models.null import NullScorer
from models.scores import Scorer
from stream.bench.clock import Clock, Spent
from stream.kafka.client import aiokafka_config
from stream.labelling import LabelEncoder, label_of, model_refs
from stream.post_decoding import RawPost, read_post
from stream.records import Origin, encode
from stream.scoring_process.handle import ScoringProcess
from stream.settings import Settings, load_settings
from stream.topics import LABELS, POSTS

_PLAIN_IN_FLIGHT = 4
_PLAIN_FETCH = 8192


async def run_worker_app(settings: Settings, events: int, scores: Any = None) -> Spent:
    """What the worker's own app spends on `events` posts; `scores` is what its role prepared."""
    from stream.agents.label import prepare, release
    from stream.app import create_app
    from stream.interpreter import tune_interpreter

    scores = prepare(settings) if scores is None else scores
    tune_interpreter()
    app: Any = create_app(settings, scores)
    await app.start()
    try:
        while app.flow is None or app.consumer.ledger.records == 0:
            await _breathe(app, 0.001)
        clock = Clock([scores.pid] if isinstance(scores, ScoringProcess) else [])
        while app.flow.counts.posts < events:
            await _breathe(app, 0.01)
        await app.consumer.commit()
        return clock.spent()
    finally:
        await app.stop()
        release(scores)


async def _breathe(app: Any, seconds: float) -> None:
    """Let it work.

    Raises:
        Exception: it has crashed; whatever it was.
    """
    await asyncio.sleep(seconds)
    if app.crash_reason is not None:
        raise app.crash_reason


async def run_one_process(settings: Settings, events: int) -> Spent:
    """What the worker's app spends when it scores in its own threads."""
    return await run_worker_app(settings, events, NullScorer())


async def run_plain(settings: Settings, events: int) -> Spent:
    """What the best loop that we could write with aiokafka alone spends."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    kafka = settings.kafka
    consumer = AIOKafkaConsumer(
        POSTS.full_name(kafka.topic_prefix),
        **aiokafka_config(kafka),
        group_id=kafka.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=1500,
    )
    producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all", max_batch_size=512 * 1024)
    await producer.start()
    await consumer.start()
    scorer = NullScorer()
    topic = LABELS.full_name(kafka.topic_prefix)
    done, clock = 0, Clock()
    rounds: list[tuple[list[Any], dict[Any, int]]] = []

    async def finish_round() -> None:
        deliveries, offsets = rounds.pop(0)
        await asyncio.gather(*deliveries)
        await consumer.commit(offsets)

    try:
        while done < events:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=_PLAIN_FETCH)
            if not fetched:
                continue
            if not done:
                clock.restart()
            deliveries, offsets = [], {}
            for partition, records in fetched.items():
                deliveries += await _label_plainly(producer, scorer, topic, partition, records)
                offsets[partition] = records[-1].offset + 1
                done += len(records)
            rounds.append((deliveries, offsets))
            if len(rounds) >= _PLAIN_IN_FLIGHT:
                await finish_round()
        while rounds:
            await finish_round()
        return clock.spent()
    finally:
        await consumer.stop()
        await producer.stop()


async def _label_plainly(
    producer: Any, scorer: Scorer, topic: str, partition: Any, records: Any
) -> list[Any]:
    refs = model_refs(scorer.models)
    posts = [read_post(record.value) for record in records]
    scores = scorer.score([post.text or "" for post in posts])
    now_ms = time.time_ns() // 1_000_000
    write = LabelEncoder(refs).writer(partition.topic, partition.partition, now_ms)
    sent = []
    batch = producer.create_batch()
    for record, post, answer in zip(records, posts, scores, strict=True):
        if isinstance(post, RawPost):
            value = write(post, record.value, answer, record.offset, record.timestamp)
        else:
            origin = Origin(
                topic=partition.topic,
                partition=partition.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp,
            )
            value = encode(label_of(post, answer, refs, labelled_at_ms=now_ms, origin=origin))
        if batch.append(timestamp=now_ms, key=record.key, value=value) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition.partition))
            batch = producer.create_batch()
            batch.append(timestamp=now_ms, key=record.key, value=value)
    sent.append(await producer.send_batch(batch, topic, partition=partition.partition))
    return sent


async def run_stock_faust(settings: Settings, events: int) -> Spent:
    """What the agent of Faust's guide spends, with its models."""
    from stream.bench.stock import run_with_models

    return await run_with_models(settings, events)


async def run_raw_faust(settings: Settings, events: int) -> Spent:
    """What the same loop spends around our own decoder and encoder."""
    from stream.bench.stock import run_without_models

    return await run_without_models(settings, events)


CONTESTANTS: dict[str, Callable[[Settings, int], Awaitable[Spent]]] = {
    "worker": run_worker_app,
    "one_process": run_one_process,
    "aiokafka": run_plain,
    "stock_faust": run_stock_faust,
    "raw_faust": run_raw_faust,
}


def main() -> None:
    """One run of one contestant, on uvloop where there is one."""
    name, events = sys.argv[1], int(sys.argv[2])
    coroutine: Any = CONTESTANTS[name](load_settings(), events)
    run: Callable[[Any], Spent] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    spent: Spent = run(coroutine)
    result = {"posts": events, **spent._asdict()}
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
