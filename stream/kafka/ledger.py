"""Which records were handed out, which of them are done, and how far a partition may be committed.

The invariant of the whole project: `committable` never passes a span that is not confirmed. It
knows offsets in the order in which they were handed out and nothing else; Faust's own list of
acknowledged offsets has holes it cannot see (docs/reliability.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol


class Record(Protocol):
    """What is read of a consumed record; aiokafka's `ConsumerRecord` is one."""

    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102


class Partition(NamedTuple):
    """A topic's partition. Equal to Faust's `TP` and aiokafka's `TopicPartition`."""

    topic: str
    partition: int


class SpanState(IntEnum):
    """The life of a span; it only ever goes up."""

    QUEUED = 0
    TAKEN = 1
    CONFIRMED = 2
    DROPPED = 3


class Span:
    """Consecutive records of one partition: the unit of work and of acknowledgement.

    `next_offset` is what may be committed once this span and all before it are confirmed. Of its
    `count` records none need be kept once the outputs are made of them: `free`.
    """

    __slots__ = ("count", "next_offset", "partition", "records", "size", "state")

    def __init__(
        self, partition: Partition, records: Sequence[Record], size: int, next_offset: int
    ) -> None:
        self.partition = partition
        self.records = records
        self.count = len(records)
        self.size = size
        self.next_offset = next_offset
        self.state = SpanState.QUEUED

    @property
    def dropped(self) -> bool:
        """The partition was taken away: do not work on it, do not acknowledge it."""
        return self.state is SpanState.DROPPED

    def free(self) -> None:
        """Let go of the records, in the thread that has them in its cache."""
        self.records = ()


def spans_of(partition: Partition, records: Sequence[Record], most: int) -> list[Span]:
    """The records of one fetch in spans of at most `most`."""
    spans = []
    for start in range(0, len(records), most):
        part = records[start : start + most]
        # A list: a generator would cost as much again as the sum.
        size = sum([len(r.value or b"") + len(r.key or b"") for r in part])
        spans.append(Span(partition, part, size, part[-1].offset + 1))
    return spans


class Ledger:
    """The spans that were handed out and are not committable yet, in offset order per partition.

    Used on the event loop only. `records` and `size` are what is out: back-pressure reads them.

    Args:
        on_change: called after every confirmation and every drop.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self._open: dict[Partition, deque[Span]] = {}
        self._committable: dict[Partition, int] = {}
        self._on_change = on_change
        self.records = 0
        self.size = 0
        self.taken = 0
        #: Spans and records ever confirmed: the watchdog looks whether they grow.
        self.confirmed_records = 0

    def open(self, spans: Iterable[Span]) -> None:
        """Hand out spans; within a partition in offset order."""
        for span in spans:
            self._open.setdefault(span.partition, deque()).append(span)
            self.records += span.count
            self.size += span.size

    def take(self, span: Span) -> bool:
        """Begin work on a span; False: it was dropped meanwhile."""
        if span.state is not SpanState.QUEUED:
            return False
        span.state = SpanState.TAKEN
        self.taken += 1
        return True

    def confirm(self, spans: Iterable[Span]) -> None:
        """Every output of these spans is with the broker. Dropped spans stay dropped."""
        for span in spans:
            if span.state is not SpanState.TAKEN:
                continue
            span.state = SpanState.CONFIRMED
            self.taken -= 1
            self._release(span)
            self.confirmed_records += span.count
            queue = self._open[span.partition]
            while queue and queue[0].state is SpanState.CONFIRMED:
                self._committable[span.partition] = queue.popleft().next_offset
        self._on_change()

    def committable(self, partition: Partition) -> int | None:
        """The offset up to which everything is confirmed; None: nothing new since `forget`."""
        return self._committable.get(partition)

    def partitions(self) -> list[Partition]:
        """Partitions with something to commit."""
        return list(self._committable)

    def drop_queued(self) -> None:
        """Give back what no one works on yet; it will be read again."""
        for queue in self._open.values():
            # Work is taken in order: behind the first queued span there are only queued ones.
            while queue and queue[-1].state is SpanState.QUEUED:
                span = queue.pop()
                span.state = SpanState.DROPPED
                self._release(span)
        self._on_change()

    def forget(self, partitions: Collection[Partition] | None = None) -> None:
        """Drop every span of these partitions (default: of all); confirming them is then void."""
        for partition in list(self._open) if partitions is None else partitions:
            for span in self._open.pop(partition, ()):
                if span.state is SpanState.TAKEN:
                    self.taken -= 1
                if span.state is not SpanState.CONFIRMED:
                    self._release(span)
                span.state = SpanState.DROPPED
        for partition in list(self._committable) if partitions is None else partitions:
            self._committable.pop(partition, None)
        self._on_change()

    def _release(self, span: Span) -> None:
        self.records -= span.count
        self.size -= span.size
