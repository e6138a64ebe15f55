"""Faust's Kafka transport, drained by the fetch instead of by the record.

A fetch of a batched topic reaches the agent as one event per partition whose value is a list of
`Span`s; whatever Faust spends per event it then spends once per thousands of posts. Offsets are
committed from the `Ledger` alone, strictly in order, for batched and for ordinary topics.

Everything hangs on Faust's plug points (`app.transport`, the `Consumer` class of a `Transport`,
the thread class of a `Consumer`); nothing of Faust is replaced at run time. What each override is
for stands in docs/reliability.md, with the behaviour of the stock class it replaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, Final, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from yarl import URL

from stream.kafka.fetching import BatchedConsumerThread, Fetched, FetchRequest
from stream.kafka.ledger import Ledger, Partition, Span

log = logging.getLogger(__name__)

#: On a rebalance or when crashing, a commit that takes longer is given up: it will be read again.
_COMMIT_TIMEOUT_S: Final = 5.0
#: Fetches that come back with records faster than this are gathered: the broker then answers with
#: what has come in `fetching.GATHER_MS`, one answer for many records.
_STEADY_S: Final = 0.01


def _nobody_failed() -> bool:
    return True


def _nobody_waits() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How much is handed out at once.

    The memory between broker and agent is bounded: at most `most_records` records, and at most
    `most_bytes` plus one fetch (partitions x 1 MiB) of keys and values, are handed out and not
    confirmed; aiokafka holds one more fetch.

    Args:
        topics: full names of the topics that are read in batches.
        changelogs: those of them that are the changelogs of tables: read when a table is
            recovered, and never confirmed by anybody.
        span_records: most records of one span.
        most_records: hand out no more while this many are out.
        most_bytes: hand out no more while this many bytes are out.
        drain_timeout_s: longest wait, on a rebalance or a stop, for what is being worked on.
    """

    topics: frozenset[str]
    span_records: int
    most_records: int
    most_bytes: int = 32 << 20
    drain_timeout_s: float = 20.0
    changelogs: frozenset[str] = frozenset()


class BatchedConsumer(driver.Consumer):
    """Faust's consumer with one message per partition and fetch, and offsets from a ledger."""

    logger = logging.getLogger("faust.transport.batched")
    transport: BatchedTransport
    _thread: BatchedConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.transport.options
        self._batched = options.topics | options.changelogs
        self._room = asyncio.Event()
        self._drained = asyncio.Event()
        self.ledger = Ledger(self._ledger_changed)
        #: Offsets of ordinary topics in the order in which they were handed out.
        self._handed_out: MutableMapping[TP, list[int]] = {}
        self._rewind = False
        self._draining = False
        #: When the last fetch came back with anything, and whether the next one gathers.
        self._fetched_at = 0.0
        self._gather = False
        #: How often anybody asked for records: the watchdog looks whether it grows.
        self.polls = 0

    def _new_consumer_thread(self) -> BatchedConsumerThread:
        # A loop of the same kind as the main one: uvloop where the worker runs on it.
        thread_loop = cast("Any", type(self.loop))() if self.transport.same_loop else None
        thread = BatchedConsumerThread(
            self, loop=self.loop, thread_loop=thread_loop, beacon=self.beacon
        )
        thread._close_thread_loop_on_stop = True  # noqa: SLF001 - nobody else holds this loop
        return thread

    def _ledger_changed(self) -> None:
        if self._has_room():
            self._room.set()
        else:
            self._room.clear()
        if self.ledger.taken == 0:
            self._drained.set()

    def _has_room(self) -> bool:
        options, ledger = self.transport.options, self.ledger
        return ledger.records < options.most_records and ledger.size < options.most_bytes

    # -- reading

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - Faust's
        """One message per partition with data; nothing after `timeout` seconds, or without room."""
        self.polls += 1
        generation = self.app.consumer_generation_id
        fetched = await self._next_fetch(timeout)
        self._note(fetched)
        if fetched and (
            not self.flow_active
            or self.app.consumer_generation_id != generation
            or self.should_stop
        ):
            # They belong to an assignment that is over. Most often a rebalance rewinds for us.
            self._rewind = True
            return
        for tp, part in fetched:
            if not self.flow_active or self.app.consumer_generation_id != generation:
                self._rewind = True
                return
            if tp not in self._active_partitions:
                self._rewind = True
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if tp.topic in self._batched:
                spans = cast("list[Span]", part)
                if tp.topic not in self.transport.options.changelogs:
                    self.ledger.open(spans)
                    self._ledger_changed()
                yield tp, self._message_of_spans(tp, spans)
            else:
                for record in cast("Sequence[Any]", part):
                    if not self.flow_active or self.app.consumer_generation_id != generation:
                        self._rewind = True
                        return
                    self._handed_out.setdefault(tp, []).append(record.offset)
                    yield tp, self._to_message(tp, record)

    async def _next_fetch(self, wait_s: float) -> Fetched:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        if self._rewind and self.flow_active and not self.should_stop:
            await self.perform_seek()
        if not self._has_room():
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), wait_s)
            except TimeoutError:
                return []
        partitions = self._active_partitions
        if not partitions:
            # Not paused by us: an assignment without partitions, or one being prepared.
            await self.sleep(0.05)
            return []
        options = self.transport.options
        return await self._thread.fetch(
            FetchRequest(
                partitions=set(partitions),
                wait_s=wait_s,
                most=max(1, options.most_records - self.ledger.records),
                span_records=options.span_records,
                batched=self._batched,
                gather=self._gather,
            )
        )

    def _note(self, fetched: Fetched) -> None:
        """Whether the next fetch gathers: it does while records come one after the other.

        A record that comes alone and finds nothing being computed is handed out as soon as it is
        there; a fetch costs broker and worker the same for one record as for a hundred.
        """
        if not fetched:
            self._gather = False
            return
        records = sum(
            sum(span.count for span in cast("list[Span]", part))
            if tp.topic in self._batched
            else len(part)
            for tp, part in fetched
        )
        now = monotonic()
        steady = now - self._fetched_at < _STEADY_S
        self._fetched_at = now
        self._gather = steady or records > 1 or self.transport.busy()

    def _message_of_spans(self, tp: TP, spans: list[Span]) -> ConsumerMessage:
        last = spans[-1].records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            [],
            None,
            cast("bytes", spans),
            None,
            0,
            sum(span.size for span in spans),
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Where partitions end: recovery reads changelogs up to there.

        The stock class asks ListOffsets, which the embedded broker answers too low: a table would
        be taken for recovered before its last records were read.
        """
        ends = self.transport.partition_ends
        if ends is None:
            return await super().highwaters(*partitions)
        found = await asyncio.to_thread(ends, [Partition(*tp) for tp in partitions])
        return {TP(*partition): end for partition, end in found.items()}

    # -- acknowledging

    def ack(self, message: Message) -> bool:
        """Note that a message is done. Commits follow the ledger, and no message of the past."""
        if message.topic in self._batched or (
            message.generation_id != self.app.consumer_generation_id
        ):
            self._unacked_messages.discard(message)
            message.acked = True
            return False
        return bool(super().ack(message))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets that were never handed out need no acknowledgement: the ledger has no holes."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        pending = {TP(*p) for p in self.ledger.partitions()} | set(self._acked)
        return (tp for tp in pending if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        """How far `tp` may be committed: up to the first record that is not acknowledged."""
        if tp.topic in self._batched:
            return self.ledger.committable(Partition(*tp))
        handed_out, acked = self._handed_out.get(tp, []), self._acked_index[tp]
        done = 0
        while done < len(handed_out) and handed_out[done] in acked:
            done += 1
        if not done:
            return None
        finished, handed_out[:done] = handed_out[:done], []
        acked.difference_update(finished)
        self._acked[tp] = [offset for offset in self._acked[tp] if offset in acked]
        return finished[-1] + 1

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        before = {tp: self._committed_offset[tp] for tp in offsets}
        did_commit = bool(await super()._commit_offsets(offsets, start_new_transaction))
        if not did_commit:
            # The stock class books offsets that the broker refused.
            self._committed_offset.update(before)
        return did_commit

    # -- rebalancing, seeking, stopping

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what is being worked on, commit it, and only then forget the partitions."""
        self.stop_flow()
        await self.wait_empty()
        self._forget(revoked)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Go back to what is committed; what was handed out will be handed out again."""
        self._rewind = False
        self._forget(None)
        await super().perform_seek()

    async def seek(self, partition: TP, offset: int) -> None:
        """Go to an offset; what was handed out of the partition counts no more."""
        self._forget({partition})
        await super().seek(partition, offset)

    def _forget(self, partitions: set[TP] | None) -> None:
        self.ledger.forget(None if partitions is None else [Partition(*tp) for tp in partitions])
        for tp in list(self._handed_out) if partitions is None else partitions:
            self._handed_out.pop(tp, None)
            self._acked.pop(tp, None)
            self._acked_index.pop(tp, None)

    async def wait_empty(self) -> None:
        """Give back what is queued, wait for what is being worked on, commit.

        Waits at most `drain_timeout_s`: whatever is not confirmed by then is read again by the
        partition's next owner.
        """
        self.ledger.drop_queued()
        deadline = monotonic() + self.transport.options.drain_timeout_s
        while self.ledger.taken and self.transport.working() and monotonic() < deadline:
            self._drained.clear()
            try:
                await asyncio.wait_for(self._drained.wait(), 0.1)
            except TimeoutError:
                continue
        if self.ledger.taken:
            log.warning("posts in flight were not finished in time and will be read again")
        self._unacked_messages.clear()
        try:
            await asyncio.wait_for(self.commit_and_end_transactions(), _COMMIT_TIMEOUT_S)
        except TimeoutError:
            log.warning("the last commit was not confirmed; its posts will be read again")

    async def on_task_error(self, exc: BaseException) -> None:
        """Commit nothing: Faust would wait here for a broker that may be what failed."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """The stock checks read sensors that do not exist per batch; the watchdog does this."""


class BatchedTransport(driver.Transport):
    """The transport of an app whose topics are read in batches: `app.transport = ...`.

    Args:
        url: the brokers.
        app: the Faust app.
        options: which topics, and how much at once.
        same_loop: run the consumer's thread on a loop of the main loop's kind.
        partition_ends: finds where partitions end, blocking; needed where there are tables.
    """

    Consumer: ClassVar[type[BatchedConsumer]] = BatchedConsumer

    def __init__(
        self,
        url: list[URL],
        app: Any,
        options: BatchOptions,
        *,
        same_loop: bool = True,
        partition_ends: Callable[[Sequence[Partition]], Mapping[Partition, int]] | None = None,
    ) -> None:
        super().__init__(url, app)
        self.options = options
        self.same_loop = same_loop
        self.partition_ends = partition_ends
        #: Whether anybody still works on what was taken; set by who does.
        self.working: Callable[[], bool] = _nobody_failed
        #: Whether what would be read now had to wait for what is computed; set by who computes.
        self.busy: Callable[[], bool] = _nobody_waits
