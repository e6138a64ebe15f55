"""The flow with a scorer that waits to be let go and a publisher that keeps what it is given."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.null import NullScorer
from models.scores import Prepared
from stream.errors import DeliveryError
from stream.flow import Flow, PackedPipeline
from stream.kafka.ledger import Ledger, Partition, Span, spans_of
from stream.kafka.packing import Output
from stream.pipeline import Pipeline

PLENTY_S = 30.0


@dataclass(frozen=True)
class _Record:
    offset: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


@dataclass
class _Packed:
    topic: str
    partition: int
    outputs: list[Output] = field(default_factory=list)


class KeepingPublisher:
    """What goes out; confirms when told to, or fails."""

    def __init__(self) -> None:
        self.sent: list[Output] = []
        self.confirming = asyncio.Event()
        self.confirming.set()
        self.failing = False

    def pack(self, outputs: Iterable[Output], _timestamp_ms: int) -> list[_Packed]:
        packed: dict[tuple[str, int], _Packed] = {}
        for output in outputs:
            place = (output.topic, output.partition)
            packed.setdefault(place, _Packed(*place)).outputs.append(output)
        return list(packed.values())

    async def send(self, packed: Sequence[_Packed]) -> list[Any]:
        self.sent += [output for part in packed for output in part.outputs]
        return [None]

    async def confirm(self, deliveries: Iterable[Any]) -> None:
        assert list(deliveries)
        await self.confirming.wait()
        if self.failing:
            raise DeliveryError("no")


class GatedScorer(NullScorer):
    """Holds every batch until `gate` opens; remembers how large they were."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.sizes: list[int] = []

    def prepare(self, texts: Sequence[str]) -> Prepared:
        self.sizes.append(len(texts))
        return super().prepare(texts)

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        assert self.gate.wait(PLENTY_S)
        return super().infer(prepared)


class Rig:
    def __init__(self, *, delay_s: float, batch_posts: int = 10, in_flight: int = 3) -> None:
        self.scorer = GatedScorer()
        self.publisher = KeepingPublisher()
        self.ledger = Ledger()
        self.flow = Flow(
            PackedPipeline(
                Pipeline(self.scorer, labels="labels", dead_letters="dead-letters"),
                self.publisher.pack,  # type: ignore[arg-type] # what the flow uses of it
            ),
            self.publisher,  # type: ignore[arg-type] # what the flow uses of it
            self.ledger,
            batch_posts=batch_posts,
            delay_s=delay_s,
            in_flight=in_flight,
        )
        self._next = [0, 0]

    def put(self, count: int, partition: int = 0) -> list[Span]:
        first = self._next[partition]
        self._next[partition] += count
        spans = spans_of(
            Partition("posts", partition),
            [_Record(n, b'{"id":"p%d","text":"x"}' % n) for n in range(first, first + count)],
            10,
        )
        self.ledger.open(spans)
        self.flow.put(spans)
        return spans

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PLENTY_S):
            while not condition():  # noqa: ASYNC110 - what it waits for is in threads
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    task = asyncio.create_task(rig.flow.run())
    try:
        yield rig
    finally:
        rig.scorer.gate.set()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_lone_post_does_not_wait_for_company() -> None:
    """With a delay of an hour it would never leave if it waited."""
    async with running(Rig(delay_s=3600)) as rig:
        rig.scorer.gate.set()
        rig.put(1)
        await rig.until(lambda: rig.flow.counts.posts == 1)
        rig.put(1)
        await rig.until(lambda: rig.flow.counts.posts == 2)
    assert rig.scorer.sizes == [1, 1]


async def test_what_comes_while_a_batch_is_computed_leaves_together() -> None:
    async with running(Rig(delay_s=3600)) as rig:
        rig.put(1)
        await rig.until(lambda: rig.scorer.sizes == [1])
        for _ in range(5):
            rig.put(1)
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.posts == 6)
    assert rig.scorer.sizes == [1, 5]


async def test_a_second_batch_is_prepared_behind_the_first_once_its_posts_have_waited() -> None:
    async with running(Rig(delay_s=0.01)) as rig:
        rig.put(1)
        await rig.until(lambda: rig.scorer.sizes == [1])
        rig.put(2)
        await rig.until(lambda: rig.ledger.taken == 2)
        # A third would only be smaller: it grows until one of the two is done.
        for _ in range(4):
            rig.put(1)
            await asyncio.sleep(0.02)
        assert rig.ledger.taken == 2
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.posts == 7)
    assert rig.scorer.sizes == [1, 2, 4]


async def test_a_flood_fills_the_batches_across_partitions() -> None:
    async with running(Rig(delay_s=3600, batch_posts=20)) as rig:
        rig.put(1)
        await rig.until(lambda: rig.scorer.sizes == [1])
        rig.put(20, partition=0)
        rig.put(20, partition=1)
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.posts == 41)
    assert rig.scorer.sizes == [1, 20, 20]


async def test_no_more_batches_are_in_flight_than_allowed() -> None:
    async with running(Rig(delay_s=0, in_flight=2)) as rig:
        rig.put(100)
        await rig.until(lambda: len(rig.scorer.sizes) == 2)
        assert rig.ledger.taken == 2
        rig.scorer.gate.set()
        rig.publisher.confirming.clear()
        await rig.until(lambda: len(rig.publisher.sent) == 20)
        # Computed, sent and not confirmed: they are still in flight.
        assert rig.ledger.taken == 2
        rig.publisher.confirming.set()
        await rig.until(lambda: rig.flow.counts.posts == 100)


async def test_outputs_leave_in_the_order_in_which_posts_came() -> None:
    async with running(Rig(delay_s=0)) as rig:
        rig.put(200)
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.posts == 200)
    assert [output.source.origin.offset for output in rig.publisher.sent] == list(range(200))


async def test_nothing_is_committable_until_the_broker_has_confirmed() -> None:
    async with running(Rig(delay_s=0)) as rig:
        rig.publisher.confirming.clear()
        rig.scorer.gate.set()
        rig.put(5)
        await rig.until(lambda: len(rig.publisher.sent) == 5)
        assert rig.ledger.committable(Partition("posts", 0)) is None
        rig.publisher.confirming.set()
        await rig.until(lambda: rig.ledger.committable(Partition("posts", 0)) == 5)


async def test_posts_of_a_partition_taken_away_are_neither_worked_on_nor_sent() -> None:
    """faust#502: what is buffered of a revoked partition must not be processed."""
    async with running(Rig(delay_s=3600)) as rig:
        rig.put(1, partition=0)
        await rig.until(lambda: rig.scorer.sizes == [1])
        rig.put(3, partition=0)
        rig.put(4, partition=1)
        rig.ledger.forget([Partition("posts", 0)])
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.batches == 2)
    assert rig.scorer.sizes == [1, 4]
    assert {output.partition for output in rig.publisher.sent} == {1}
    assert rig.ledger.committable(Partition("posts", 0)) is None
    assert rig.ledger.committable(Partition("posts", 1)) == 4


async def test_a_failed_delivery_ends_the_flow_and_confirms_nothing() -> None:
    rig = Rig(delay_s=0)
    rig.publisher.failing = True
    rig.scorer.gate.set()
    rig.put(5)
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(rig.flow.run(), PLENTY_S)
    assert caught.group_contains(DeliveryError)
    assert rig.ledger.committable(Partition("posts", 0)) is None
    assert not rig.flow.running


def is_busy(rig: Rig) -> bool:
    return rig.flow.busy


async def test_it_is_busy_only_while_another_post_would_have_to_wait() -> None:
    async with running(Rig(delay_s=3600)) as rig:
        assert not is_busy(rig)
        rig.put(1)
        await rig.until(lambda: rig.scorer.sizes == [1])
        assert not is_busy(rig)
        rig.put(1)
        assert is_busy(rig)
        rig.scorer.gate.set()
        await rig.until(lambda: rig.flow.counts.posts == 2)
        assert not is_busy(rig)
