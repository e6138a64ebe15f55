"""Stock Faust, as its guide tells one to write an agent: what `bench stream` compares with.

`run_with_models` is the guide's way ("for real applications you should define models"): records of
Faust's own in and out, `take` a batch, `send` each result. `run_without_models` is the same loop
around our decoder and encoder, so that the difference is Faust's loop alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import faust

from models.null import NullScorer
from stream.bench.clock import Clock, Spent
from stream.kafka.client import bootstrap_servers
from stream.labelling import label_of, model_refs
from stream.post_decoding import decode_post
from stream.records import LABEL_SCHEMA, encode, rfc3339
from stream.settings import Settings
from stream.topics import LABELS, POSTS


class PostModel(faust.Record, serializer="json"):
    """What comes in."""

    id: str
    text: str
    author: str | None = None
    created_at: str | None = None
    langs: list[str] = []  # noqa: RUF012 - a field of a Faust model


class LabelModel(faust.Record, serializer="json"):
    """What goes out."""

    schema: str
    label_id: str
    post_id: str
    labels: dict[str, Any]
    models: dict[str, Any]
    labelled_at: str
    post: PostModel


async def run_with_models(settings: Settings, events: int) -> Spent:
    """What is spent by an agent as Faust's guide tells one to write it.

    Models for what comes in and goes out ("for real applications you should define models"),
    `take` a batch, `send` each result.
    """
    with _stock_app(settings) as app:
        return await _with_models(app, settings, events)


async def _with_models(app: Any, settings: Settings, events: int) -> Spent:
    posts = app.topic(POSTS.full_name(settings.kafka.topic_prefix), value_type=PostModel)
    labels = app.topic(LABELS.full_name(settings.kafka.topic_prefix), value_type=LabelModel)
    scorer = NullScorer()
    models = {task: {"id": m.id, "version": m.version} for task, m in scorer.models.items()}

    async def label_all(batch: list[Any], now_ms: int) -> None:
        for post, answer in zip(batch, scorer.score([post.text for post in batch]), strict=True):
            tasks = {
                task: {"label": a.label, "score": a.score, "scores": a.scores}
                for task, a in answer.tasks.items()
            }
            label = LabelModel(
                schema=LABEL_SCHEMA,
                label_id=post.id,
                post_id=post.id,
                labels=tasks,
                models=models,
                labelled_at=rfc3339(now_ms),
                post=post,
            )
            await labels.send(value=label)

    return await _run_stock(app, posts, settings, events, label_all)


async def run_without_models(settings: Settings, events: int) -> Spent:
    """What is spent by the same agent without models: our decoder and encoder around Faust's loop."""
    with _stock_app(settings) as app:
        return await _without_models(app, settings, events)


async def _without_models(app: Any, settings: Settings, events: int) -> Spent:
    raw = {"value_serializer": "raw"}
    posts = app.topic(POSTS.full_name(settings.kafka.topic_prefix), **raw)
    labels = app.topic(LABELS.full_name(settings.kafka.topic_prefix), **raw)
    scorer = NullScorer()
    refs = model_refs(scorer.models)

    async def label_all(values: list[Any], now_ms: int) -> None:
        batch = [decode_post(value) for value in values]
        scores = scorer.score([post.text or "" for post in batch])
        for post, answer in zip(batch, scores, strict=True):
            value = encode(label_of(post, answer, refs, labelled_at_ms=now_ms))
            await labels.send(value=value)

    return await _run_stock(app, posts, settings, events, label_all)


@contextlib.contextmanager
def _stock_app(settings: Settings) -> Iterator[Any]:
    kafka = settings.kafka
    # It makes a folder for every app, in the working directory unless it is told otherwise.
    with tempfile.TemporaryDirectory() as folder:
        yield faust.App(
            kafka.group,
            broker=[f"kafka://{server}" for server in bootstrap_servers(kafka)],
            env={},
            datadir=folder,
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            broker_session_timeout=6.0,
            broker_heartbeat_interval=1.5,
        )


async def _run_stock(
    app: Any,
    posts: Any,
    settings: Settings,
    events: int,
    label_all: Callable[[list[Any], int], Awaitable[None]],
) -> Spent:
    finished: asyncio.Future[Spent] = asyncio.get_running_loop().create_future()
    clock = Clock()
    done = 0

    @app.agent(posts)  # type: ignore[untyped-decorator] # Faust's is not typed
    async def label(stream: Any) -> None:
        nonlocal done
        async for values in stream.take(settings.worker.batch_posts, within=0.05):
            if not done:
                clock.restart()
            await label_all(values, time.time_ns() // 1_000_000)
            done += len(values)
            if done >= events and not finished.done():
                finished.set_result(clock.spent())

    await app.start()
    try:
        return await finished
    finally:
        await app.stop()
