"""The watchdog on a running worker that is made to stand still, each way it can."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.null import NullScorer
from models.scores import Prepared
from stream.app import create_app
from stream.errors import StallError, TidegateError
from stream.kafka.embedded import EmbeddedBroker
from stream.records import Post, encode
from stream.settings import KafkaSettings, Settings
from stream.watchdog import Progress, Watchdog
from tests.chaos.posts import Sent
from tests.chaos.traffic import send
from tests.conftest import topics_on

#: A consumer without records asks again every second: no limit near that makes sense.
_LIMIT_S = 3.0


# An app that crashed is ended with its process; here its sockets are the collector's to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture
def collected() -> Iterator[None]:
    """What a crashed app leaves is collected before the next test."""
    yield
    gc.collect()


class _Slow(NullScorer):
    """Stands still at the first batch until it is let go."""

    def __init__(self) -> None:
        self.go_on = False

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        while not self.go_on:
            time.sleep(0.01)
        return super().infer(prepared)


@pytest.fixture
def topics(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    return topics_on(embedded_broker, partitions=1)


@contextlib.asynccontextmanager
async def _watched(
    kafka: KafkaSettings, scorer: NullScorer, limit_s: float = _LIMIT_S
) -> AsyncIterator[tuple[Any, list[TidegateError]]]:
    app: Any = create_app(Settings(kafka=kafka), scorer)
    ended: list[TidegateError] = []
    watchdog = Watchdog(
        app,
        asyncio.get_running_loop(),
        stall_timeout_s=limit_s,
        stop_timeout_s=5,
        end=ended.append,
    )
    await app.start()
    try:
        await _until(lambda: bool(app.flow) and bool(app.consumer.assignment()))
        await _until(lambda: app.consumer.flow_active)
        watchdog.start()
        yield app, ended
    finally:
        watchdog.finished()
        watchdog.join()
        reads = app.consumer._thread._thread
        for service in (app, app.consumer._thread):
            # A crashed app's connections are cancelled, and its thread's loop may be closed.
            with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                await service.stop()
        # Where the app crashed nobody waits for its thread, which calls our loop at its end.
        await asyncio.to_thread(reads.join, 20)
        assert not reads.is_alive()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - what it waits for is in another thread
            await asyncio.sleep(0.02)


async def _reason(app: Any) -> str:
    await _until(lambda: app.crashed)
    assert isinstance(app.crash_reason, StallError)
    return str(app.crash_reason.message)


async def test_a_worker_that_waits_for_posts_is_left_alone(topics: KafkaSettings) -> None:
    async with _watched(topics, NullScorer()) as (app, ended):
        polls = app.consumer.polls
        await _until(lambda: app.consumer.polls > polls + 2)  # longer than the limit
        assert not app.crashed
        assert not ended


async def test_posts_that_nobody_finishes(topics: KafkaSettings) -> None:
    scorer = _Slow()
    async with _watched(topics, scorer) as (app, _):
        await send(topics, [Sent(0, b"a", encode(Post(id="1", text="a calm day")), "label")])
        assert "1 posts are in flight and none was delivered" in await _reason(app)
        scorer.go_on = True


async def test_a_blocked_event_loop(topics: KafkaSettings) -> None:
    async with _watched(topics, NullScorer(), 0.5) as (app, _):
        time.sleep(1.5)  # noqa: ASYNC251 - this is what must be noticed
        assert "the event loop is blocked" in await _reason(app)


async def test_nobody_reads_any_more(topics: KafkaSettings) -> None:
    async with _watched(topics, NullScorer()) as (app, _):
        await app._fetcher.stop()
        assert "nothing is read from the partitions it holds" in await _reason(app)


async def test_a_rebalance_that_does_not_end(topics: KafkaSettings) -> None:
    async with _watched(topics, NullScorer(), 1.0) as (app, _):
        app.consumer.stop_flow()
        assert "a rebalance does not end" in await _reason(app)


async def test_a_stop_that_takes_too_long(topics: KafkaSettings) -> None:
    app: Any = create_app(Settings(kafka=topics), NullScorer())
    ended: list[TidegateError] = []
    watchdog = Watchdog(
        app, asyncio.get_running_loop(), stall_timeout_s=60, stop_timeout_s=-9.5, end=ended.append
    )  # the half second over is what is left of the grace
    watchdog.start()
    watchdog.stopping()
    try:
        await _until(lambda: bool(ended))
    finally:
        watchdog.finished()
        watchdog.join()
    assert "did not stop in time" in ended[0].message


def test_progress_counts_only_while_something_is_due() -> None:
    now = [0.0]
    progress = Progress(lambda: now[0])
    assert progress.seconds("a") == 0
    now[0] = 5
    assert progress.seconds("a") == 5
    assert progress.seconds("b") == 0
    now[0] = 9
    assert progress.seconds("b", due=False) == 0
    now[0] = 11
    assert progress.seconds("b") == 2
