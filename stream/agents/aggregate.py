"""The `aggregate` agent: labels and decisions in, windows out. What is counted: `stream.aggregates`.

The invariant: a record's offset is committed only after the windows that it changed are confirmed
on the changelog and on `metrics`, and after them the marker that they stand for it. One checkpoint
at a time; while it is on its way, records are counted for the next.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from stream.aggregates.book import Book, Bounds, Checkpoint
from stream.aggregates.books import Books, to_changelog
from stream.aggregates.facts import Of
from stream.errors import BrokerError
from stream.flow import THREAD_NAME
from stream.kafka.ledger import Ledger, Partition, Span
from stream.kafka.packing import Output
from stream.kafka.publisher import Publisher
from stream.kafka.tables import add_table
from stream.kafka.transport import BatchedConsumer, BatchedTransport
from stream.logs import get_logger
from stream.outcomes import Metric
from stream.records import encode
from stream.roles import Role
from stream.settings import AggregateSettings, Settings
from stream.topics import AGGREGATES, DECISIONS, LABELS, METRICS

if TYPE_CHECKING:
    from stream.app import TidegateApp

__all__ = ["ROLE", "Aggregation"]

log = get_logger(__name__)

#: How often it is looked whether a rebalance waits for what is counted and not written.
_LOOK_S: Final = 0.1
#: How often a line says what was counted.
_REPORT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Names:
    """Full names of the topics."""

    inputs: Mapping[str, Of]
    changelog: str
    metrics: str


@dataclass(slots=True)
class Counted:
    """What has been done since the start: the watchdog looks whether it changes."""

    records: int = 0
    windows: int = 0
    checkpoints: int = 0


class Aggregation:
    """Spans on their way into windows; `put` feeds it, `run` counts and writes.

    Args:
        books: what is counted.
        ledger: where spans are taken and confirmed.
        publisher: delivers windows.
        names: of the topics.
        every_s: a checkpoint at least this often, while there is something to write.
        most_records: and after this many records.
        hurried: whether somebody waits for what is counted: a rebalance, a stop.
        partition_ends: where partitions end; blocking.
    """

    def __init__(
        self,
        books: Books,
        ledger: Ledger,
        publisher: Publisher,
        names: Names,
        *,
        every_s: float,
        most_records: int,
        hurried: Callable[[], bool],
        partition_ends: Callable[[list[Partition]], Mapping[Partition, int]],
    ) -> None:
        self._books = books
        self._ledger = ledger
        self._publisher = publisher
        self._names = names
        self._every_s = every_s
        self._most_records = most_records
        self._hurried = hurried
        self._partition_ends = partition_ends
        self._queue: deque[Span] = deque()
        self._changed = asyncio.Event()
        #: Counted, and not yet written.
        self._counted: list[Span] = []
        self._counted_records = 0
        self._since = 0.0
        self._report_at = time.monotonic() + _REPORT_S
        self.counted = Counted()
        #: False once a failure has ended it: nobody need wait for what is in flight.
        self.running = False

    def put(self, spans: Iterable[Span]) -> None:
        """Queue spans; the consumer's back-pressure bounds how many there are."""
        self._queue.extend(spans)
        self._changed.set()

    async def run(self) -> None:
        """Count and write until cancelled.

        Raises:
            BrokerError: a checkpoint was not delivered, or a topic is not the one that was counted.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix=THREAD_NAME)
        self.running = True
        try:
            while True:
                await self._wait()
                await self._check_topics()
                await self._count(pool)
                if self._is_due():
                    await self._write(pool)
        finally:
            self.running = False
            pool.shutdown(wait=False, cancel_futures=True)

    async def _wait(self) -> None:
        """Until there are spans to count, or windows to write."""
        while not self._queue and not self._is_due():
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _LOOK_S if self._counted else None)
            except TimeoutError:
                continue

    def _is_due(self) -> bool:
        return bool(self._counted) and (
            self._counted_records >= self._most_records
            or time.monotonic() >= self._since + self._every_s
            or self._hurried()
        )

    async def _check_topics(self) -> None:
        """A topic that was deleted and made again begins at 0; its records would be skipped.

        Raises:
            BrokerError: the windows stand for more records than the topic ever had.
        """
        unchecked, self._books.unchecked = self._books.unchecked, []
        topics = {of: topic for topic, of in self._names.inputs.items()}
        counted = {
            Partition(topics[book.of], book.partition): book.next_offset
            for book in unchecked
            if book.next_offset
        }
        if not counted:
            return
        ends = await asyncio.to_thread(self._partition_ends, list(counted))
        for partition, next_offset in counted.items():
            if ends[partition] < next_offset:
                raise BrokerError(
                    f"{next_offset} records were counted, and the topic ends at "
                    f"{ends[partition]}: it is not the one that was counted",
                    where=f"{partition.topic}[{partition.partition}]",
                    hint=f"was it deleted and made again? Then do the same with "
                    f"`{self._names.changelog}`",
                )

    async def _count(self, pool: ThreadPoolExecutor) -> None:
        work: list[tuple[Span, Book]] = []
        records = 0
        while self._queue and records < self._most_records:
            span = self._queue.popleft()
            book = self._books.get(
                self._names.inputs[span.partition.topic], span.partition.partition
            )
            # The book as it is now: after a rebalance there is another, which has not read what
            # comes before this span.
            if book is not None and self._ledger.take(span):
                work.append((span, book))
                records += span.count
        if not work:
            return
        if not self._counted:
            self._since = time.monotonic()
        self._counted += [span for span, _ in work]
        self._counted_records += records
        await asyncio.get_running_loop().run_in_executor(pool, _count, work)
        self.counted.records += records

    async def _write(self, pool: ThreadPoolExecutor) -> None:
        spans, self._counted, self._counted_records = self._counted, [], 0
        partitions = dict.fromkeys(span.partition for span in spans)
        books = [
            book
            for topic, partition in partitions
            if (book := self._books.get(self._names.inputs[topic], partition)) is not None
            and book.dirty
        ]
        loop = asyncio.get_running_loop()
        checkpoints = await loop.run_in_executor(pool, self._checkpoints, books)
        changes = [self._changes(*made) for made in checkpoints]
        await self._deliver(pool, [*changes, self._windows(checkpoints)])
        await self._deliver(pool, [self._markers(*made) for made in checkpoints])
        self._ledger.confirm(spans)
        self.counted.checkpoints += 1
        self.counted.windows += sum(len(made.metrics) for _, made, _ in checkpoints)
        self._report()

    def _checkpoints(self, books: list[Book]) -> list[tuple[Book, Checkpoint, list[bytes]]]:
        """In the thread."""
        made = []
        for book in books:
            checkpoint = book.checkpoint()
            made.append((book, checkpoint, [encode(metric) for metric in checkpoint.metrics]))
        return made

    def _changes(self, book: Book, made: Checkpoint, _: list[bytes]) -> list[Output]:
        if not self._books.is_current(book):
            return []  # the partition's next owner counts these records
        return [
            Output(self._names.changelog, book.partition, change.key, to_changelog(change))
            for change in made.cells
        ]

    def _windows(self, made: list[tuple[Book, Checkpoint, list[bytes]]]) -> list[Output]:
        """Earlier windows first, of all partitions: a backlog moves the alerts' clock in order."""
        metrics = [
            (metric, value)
            for book, checkpoint, values in made
            if self._books.is_current(book)
            for metric, value in zip(checkpoint.metrics, values, strict=True)
        ]
        metrics.sort(key=lambda each: each[0].start + each[0].width_s)
        return [
            Output(self._names.metrics, 0, _metric_key(metric), value) for metric, value in metrics
        ]

    def _markers(self, book: Book, made: Checkpoint, _: list[bytes]) -> list[Output]:
        if not self._books.is_current(book):
            return []
        return [
            Output(self._names.changelog, book.partition, change.key, to_changelog(change))
            for change in made.markers
        ]

    async def _deliver(self, pool: ThreadPoolExecutor, outputs: list[list[Output]]) -> None:
        loop = asyncio.get_running_loop()
        flat = [output for some in outputs for output in some]
        now_ms = time.time_ns() // 1_000_000
        packed = await loop.run_in_executor(pool, self._publisher.pack, flat, now_ms)
        await self._publisher.confirm(await self._publisher.send(packed))

    def _report(self) -> None:
        if time.monotonic() < self._report_at:
            return
        self._report_at = time.monotonic() + _REPORT_S
        log.info("counted", records=self.counted.records, windows=self.counted.windows)


def _count(work: list[tuple[Span, Book]]) -> None:
    """In the thread."""
    for span, book in work:
        book.add([(record.offset, record.value) for record in span.records])


def _metric_key(metric: Metric) -> bytes:
    m = metric
    return f"{m.width_s}/{m.start}/{m.by}/{m.group}/{m.of}/{m.partition}".encode()


def _bounds(settings: AggregateSettings) -> Bounds:
    return Bounds(
        correctable_s=settings.correctable_s, correctable_posts=settings.correctable_posts
    )


def _attach(app: TidegateApp) -> None:
    settings = app.settings.aggregates
    books = Books(_bounds(settings))
    add_table(app, AGGREGATES, books)
    transport = cast("BatchedTransport", app.transport)

    def hurried() -> bool:
        return not cast("BatchedConsumer", app.consumer).flow_active

    @app.agent(app.inputs, name="aggregate")
    async def aggregate(stream: Any) -> None:
        await app.learn_limits()
        assert transport.partition_ends is not None
        aggregation = Aggregation(
            books,
            app.ledger,
            app.publisher(),
            Names(
                {app.full_name(LABELS): "labels", app.full_name(DECISIONS): "decisions"},
                app.full_name(AGGREGATES),
                app.full_name(METRICS),
            ),
            every_s=settings.checkpoint_s,
            most_records=settings.checkpoint_records,
            hurried=hurried,
            partition_ends=transport.partition_ends,
        )
        transport.working = lambda: aggregation.running
        app.progress = lambda: (aggregation.counted.records, aggregation.counted.checkpoints)
        unacknowledged = stream.noack()
        async with asyncio.TaskGroup() as group:
            group.create_task(aggregation.run())
            async for event in unacknowledged.events():
                aggregation.put(event.value)
                # For Faust's sensors; offsets are committed from the ledger alone.
                await unacknowledged.ack(event)


def _most_records(settings: Settings) -> int:
    # One checkpoint on its way, one being counted.
    return 2 * settings.aggregates.checkpoint_records


ROLE: Final = Role(
    name="aggregate",
    reads=(LABELS, DECISIONS),
    writes=(METRICS, AGGREGATES),
    changelogs=(AGGREGATES,),
    attach=_attach,
    most_records=_most_records,
    # Faust waits that long after a rebalance in case another one comes.
    faust_settings=lambda _: {"stream_recovery_delay": 0.0},
)
