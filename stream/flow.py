"""Moves batches from the agent through the pipeline to the broker, and acknowledges them.

Bounded: at most `in_flight` batches are between consumer and broker. A batch leaves when it is
full, or at once when none is being computed, so that a lone post does not wait for company;
otherwise after `delay_s`, behind the one before it. Labels leave in the order in which posts came;
a span is confirmed in the ledger only when the broker has confirmed every output of its batch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from stream.kafka.ledger import Ledger, Span
from stream.kafka.packing import Output, Packed
from stream.kafka.publisher import Publisher
from stream.pipeline import Outcome

#: What the threads are called in which batches are computed.
THREAD_NAME: Final = "tidegate-batch"


class BatchPipeline(Protocol):
    """What turns the spans of a batch into outputs, in a thread; `Pipeline` is one."""

    def run(self, spans: Sequence[Span]) -> Outcome: ...  # noqa: D102


class Computed(NamedTuple):
    """A batch's outputs, packed for the wire, and how many of them are which."""

    labels: int
    dead_letters: int
    packed: Sequence[Packed]


class Computer(Protocol):
    """What makes packed outputs of a batch's spans and lets go of their records."""

    def compute(self, spans: Sequence[Span]) -> Computed: ...  # noqa: D102


class PackedPipeline:
    """A pipeline and what packs its outputs, one after the other in the caller's thread."""

    def __init__(
        self, pipeline: BatchPipeline, pack: Callable[[list[Output], int], Sequence[Packed]]
    ) -> None:
        self._pipeline = pipeline
        self._pack = pack

    def compute(self, spans: Sequence[Span]) -> Computed:
        """As of `Computer`."""
        outcome = self._pipeline.run(spans)
        packed = self._pack(outcome.outputs, time.time_ns() // 1_000_000)
        # What the wire's bytes were made of is freed here, where it is in the cache: on the event
        # loop it cost a fifth of the loop's time.
        outcome.outputs.clear()
        for span in spans:
            span.free()
        return Computed(outcome.labels, outcome.dead_letters, packed)


@dataclass(slots=True)
class FlowCounts:
    """What has been delivered since the start; `labels` are what the role makes of records."""

    labels: int = 0
    dead_letters: int = 0
    batches: int = 0

    @property
    def posts(self) -> int:
        """Records accounted for."""
        return self.labels + self.dead_letters


class Flow:
    """Batches on their way; `put` feeds it, `run` moves it.

    Args:
        computer: turns spans into packed outputs, called from threads.
        publisher: delivers them.
        ledger: where spans are taken and confirmed.
        batch_posts: most posts of one batch.
        delay_s: longest wait for a batch to fill while another is computed.
        in_flight: most batches between consumer and broker.
        threads: that compute batches; one for a computer that wants them in order.
        unpartitioned: output topics whose partition number says nothing of the input's.
        watch: runs beside the batches and raises when the computer can do no more.
    """

    def __init__(
        self,
        computer: Computer,
        publisher: Publisher,
        ledger: Ledger,
        *,
        batch_posts: int,
        delay_s: float,
        in_flight: int,
        threads: int | None = None,
        unpartitioned: frozenset[str] = frozenset(),
        watch: Callable[[], Coroutine[None, None, None]] | None = None,
    ) -> None:
        self._computer = computer
        self._publisher = publisher
        self._ledger = ledger
        self._batch_posts = batch_posts
        self._delay_s = delay_s
        self._in_flight = in_flight
        self._threads = threads or in_flight
        self._unpartitioned = unpartitioned
        self._watch = watch
        self._queue: deque[tuple[Span, float]] = deque()
        self._queued_records = 0
        self._computing = 0
        self._changed = asyncio.Event()
        self._ordered: asyncio.Queue[tuple[list[Span], asyncio.Future[Computed]]] = asyncio.Queue()
        self.counts = FlowCounts()
        #: False once a failure has ended it: nobody need wait for what is in flight.
        self.running = False

    def put(self, spans: Iterable[Span]) -> None:
        """Queue spans; the consumer's back-pressure bounds how many there are."""
        now = time.monotonic()
        for span in spans:
            self._queue.append((span, now))
            self._queued_records += span.count
        self._changed.set()

    @property
    def busy(self) -> bool:
        """A batch is being computed, and the next one is there: another post must wait."""
        return self._computing > 1 or (self._computing == 1 and bool(self._queue))

    async def run(self) -> None:
        """Move batches until cancelled.

        Raises:
            DeliveryError: an output was not delivered.
            ModelRuntimeError: the models fail on everything.
            ScoringProcessError: the process that scores has ended.
        """
        slots = asyncio.Semaphore(self._in_flight)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix=THREAD_NAME)
        self.running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._collect(slots, pool))
                group.create_task(self._deliver(slots, group))
                if self._watch is not None:
                    group.create_task(self._watch())
        finally:
            self.running = False
            pool.shutdown(wait=False, cancel_futures=True)

    async def _collect(self, slots: asyncio.Semaphore, pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await slots.acquire()
            batch = await self._next_batch()
            self._computing += 1
            computation = loop.run_in_executor(pool, self._computer.compute, batch)
            computation.add_done_callback(self._computed)
            self._ordered.put_nowait((batch, computation))

    async def _next_batch(self) -> list[Span]:
        while True:
            self._changed.clear()
            timeout = self._wait_s()
            if timeout == 0:
                if batch := self._take():
                    return batch
                continue
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                continue

    def _wait_s(self) -> float | None:
        """How long to wait for company; 0: leave now, None: until something happens."""
        if not self._queue:
            return None
        if self._queued_records >= self._batch_posts or not self._computing:
            return 0
        if self._computing > 1:
            # One is computed and one prepared behind it: more would only be smaller.
            return None
        return max(0.0, self._queue[0][1] + self._delay_s - time.monotonic())

    def _take(self) -> list[Span]:
        batch: list[Span] = []
        room = self._batch_posts
        while self._queue:
            span = self._queue[0][0]
            if batch and span.count > room:
                break
            self._queue.popleft()
            self._queued_records -= span.count
            if self._ledger.take(span):
                batch.append(span)
                room -= span.count
        return batch

    def _computed(self, _: asyncio.Future[Computed]) -> None:
        self._computing -= 1
        self._changed.set()

    async def _deliver(self, slots: asyncio.Semaphore, group: asyncio.TaskGroup) -> None:
        while True:
            batch, computation = await self._ordered.get()
            computed = await computation
            # A partition that was taken away meanwhile: its next owner sends these labels.
            ours = {span.partition.partition for span in batch if not span.dropped}
            sent = await self._publisher.send(
                [
                    p
                    for p in computed.packed
                    if p.partition in ours or p.topic in self._unpartitioned
                ]
            )
            group.create_task(self._confirm(batch, computed, sent, slots))

    async def _confirm(
        self,
        batch: list[Span],
        computed: Computed,
        sent: list[asyncio.Future[object]],
        slots: asyncio.Semaphore,
    ) -> None:
        await self._publisher.confirm(sent)
        self._ledger.confirm(batch)
        self.counts.labels += computed.labels
        self.counts.dead_letters += computed.dead_letters
        self.counts.batches += 1
        slots.release()
