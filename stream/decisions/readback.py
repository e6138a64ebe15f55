"""Reads stretches of topics for who must know what came before: no group, no commits.

Invariant: a stretch is read to its end or an error is raised; nobody decides on half a past.
Positions are found by reading single records and halving: the embedded broker's answer to "which
offset has this time" is not to be trusted, and of an origin's offset no broker knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from stream.errors import BrokerError
from stream.kafka.client import aiokafka_config, reason_of
from stream.kafka.ledger import Record
from stream.kafka.offsets import OffsetRange, offset_ranges
from stream.kafka.scan import open_scanner
from stream.settings import KafkaSettings

_FETCH_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 20.0
#: Below this many records halving costs more than reading.
_CLOSE_ENOUGH: Final = 64
#: A record that does not tell whether the place is reached is followed by at most so many others.
_PROBED: Final = 500


class Reader(Protocol):
    """What recovery reads with; `TopicReader` on a broker."""

    def ranges(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], OffsetRange]:
        """First and end offset of each (topic, partition)."""
        ...

    def partitions(self, topic: str) -> Mapping[int, OffsetRange]:
        """First and end offset of every partition of a topic."""
        ...

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """The records of these offsets, `end` not included."""
        ...


class TopicReader:
    """A consumer for the thread that makes it; use it in a `with` block.

    Args:
        kafka: the broker.
        on_progress: called after every fetch.
    """

    def __init__(
        self, kafka: KafkaSettings, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        self._kafka = kafka
        self._on_progress = on_progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._consumer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the broker; the next read connects again."""
        loop, self._loop = self._loop, None
        consumer, self._consumer = self._consumer, None
        if loop is None:
            return
        try:
            if consumer is not None:
                loop.run_until_complete(consumer.stop())
        finally:
            loop.close()

    def ranges(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], OffsetRange]:
        """First and end offset of each (topic, partition).

        Raises:
            BrokerError: the broker does not tell.
        """
        return offset_ranges(self._kafka, places)

    def partitions(self, topic: str) -> Mapping[int, OffsetRange]:
        """First and end offset of every partition of a topic.

        Raises:
            BrokerError: the broker does not tell.
        """
        with open_scanner(self._kafka) as scanner:
            return scanner.ranges(topic)[topic]

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """The records of these offsets, `end` not included.

        Raises:
            BrokerError: they cannot be read.
        """
        if start >= end:
            return
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        place = TopicPartition(topic, partition)
        try:
            consumer, loop = self._started()
            loop.run_until_complete(_assigned(consumer, place, start))
            waited = 0.0
            while True:
                found = loop.run_until_complete(consumer.getmany(place, timeout_ms=500))
                self._on_progress()
                records = found.get(place, ())
                if not records:
                    waited += 0.5
                    if waited >= _PATIENCE_S:
                        raise BrokerError(
                            "the broker gives no more records", where=f"{topic}[{partition}]"
                        )
                    continue
                waited = 0.0
                for record in records:
                    if record.offset >= end:
                        return
                    yield record
                if records[-1].offset + 1 >= end:
                    return
        except KafkaError as exc:
            raise BrokerError(
                f"what came before cannot be read: {reason_of(exc)}", where=f"{topic}[{partition}]"
            ) from exc

    def _started(self) -> tuple[Any, asyncio.AbstractEventLoop]:
        from aiokafka import AIOKafkaConsumer

        if self._loop is None:
            self._loop = asyncio.new_event_loop()

            async def start() -> Any:
                consumer = AIOKafkaConsumer(
                    **aiokafka_config(self._kafka),
                    enable_auto_commit=False,
                    auto_offset_reset="earliest",
                    max_partition_fetch_bytes=_FETCH_BYTES,
                    fetch_max_wait_ms=250,
                )
                try:
                    await consumer.start()
                except BaseException:
                    await consumer.stop()
                    raise
                return consumer

            self._consumer = self._loop.run_until_complete(start())
        return self._consumer, self._loop


async def _assigned(consumer: Any, place: Any, start: int) -> None:
    """In the loop: aiokafka makes futures for this, which belong to the running one."""
    consumer.assign([place])
    consumer.seek(place, start)


def find(
    reader: Reader,
    topic: str,
    partition: int,
    within: OffsetRange,
    reached: Callable[[Record], bool | None],
) -> int:
    """An offset before which no record has `reached` what is looked for, and close to where one has.

    Args:
        reader: reads the topic.
        topic: its full name.
        partition: of the topic.
        within: where to look.
        reached: whether a record lies at or behind what is looked for; None: it does not tell.
            False up to some record and true from there on.
    """
    low, high = within
    while high - low > _CLOSE_ENOUGH:
        middle = (low + high) // 2
        answer, at = None, middle
        for record in reader.read(topic, partition, middle, min(high, middle + _PROBED)):
            answer, at = reached(record), record.offset
            if answer is not None:
                break
        if answer is False:
            low = at + 1
        else:
            high = middle
    return low
