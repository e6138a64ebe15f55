"""aiokafka's consumer in Faust's consumer thread: fetches, cut into spans off the main loop."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.kafka.ledger import Partition, Span, spans_of

#: The broker answers a fetch without data after this long. aiokafka keeps one fetch per broker in
#: flight, so this is also how long a partition may wait behind idle ones; Faust's is 1500.
_FETCH_WAIT_MS: Final = 250
#: A fetch that gathers is answered after this long, or when there is as much as `_GATHER_BYTES`.
GATHER_MS: Final = 20
_GATHER_BYTES: Final = 64 << 10
#: Bytes a partition may contribute to one fetch.
MAX_PARTITION_FETCH_BYTES: Final = 1 << 20
#: Per partition the spans of a batched topic, or else aiokafka's records.
Fetched = list[tuple[TP, list[Span] | Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """Records of `partitions`, at most `most`, waiting at most `wait_s` for the first.

    `gather`: let the broker collect what comes in a few milliseconds before it answers.
    """

    partitions: set[TP]
    wait_s: float
    most: int
    span_records: int
    batched: frozenset[str]
    gather: bool = False


def _as_it_is(_tp: Any, record: Any) -> Any:
    return record


class _BareRecords(OrderedDict[Any, Any]):
    """What aiokafka's fetcher holds; records of batched topics leave it as they were parsed.

    It would copy each into a `ConsumerRecord`, a frozen dataclass of eleven fields: more than half
    of what reading a record costs. A parsed record has all that `ledger.Record` asks for.
    """

    def __init__(self, topics: Collection[str], held: Mapping[Any, Any]) -> None:
        self._topics = topics
        super().__init__(held)

    def __setitem__(self, tp: Any, result: Any) -> None:
        # A fetch that failed is held too, and has no records.
        records = getattr(result, "_partition_records", None)
        if records is not None and tp.topic in self._topics:
            records._consumer_record = _as_it_is  # noqa: SLF001 - there is no setting for it
        super().__setitem__(tp, result)


class BatchedConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its own thread; limits a fetch to the room there is."""

    logger = logging.getLogger("faust.transport.batched")

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for these two; aiokafka reads them when its fetcher is made, in
        # `start`, which comes later.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS  # noqa: SLF001
        consumer._retry_backoff_ms = 100  # noqa: SLF001
        return consumer

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its committed offset, or else to its beginning.

        aiokafka leaves a partition without a commit where it is: what was read of it and dropped
        would never be read again.
        """
        return cast("Mapping[TP, int]", await self.call_thread(self._seek_to_committed))

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        uncommitted = [tp for tp, offset in committed.items() if not offset]
        if uncommitted:
            await consumer.seek_to_beginning(*uncommitted)
        return committed

    async def fetch(self, wanted: FetchRequest) -> Fetched:
        """What there is, or after the request's time nothing."""
        return cast("Fetched", await self.call_thread(self._fetch, wanted))

    async def _fetch(self, wanted: FetchRequest) -> Fetched:
        consumer = self._ensure_consumer()
        held = consumer._fetcher._records  # noqa: SLF001 - as Faust's driver does
        if type(held) is not _BareRecords:
            consumer._fetcher._records = _BareRecords(wanted.batched, held)  # noqa: SLF001
        # aiokafka's fetcher reads these two for every request that it sends.
        fetcher = consumer._fetcher  # noqa: SLF001 - as above
        fetcher._fetch_min_bytes = _GATHER_BYTES if wanted.gather else 1  # noqa: SLF001
        fetcher._fetch_max_wait_ms = GATHER_MS if wanted.gather else _FETCH_WAIT_MS  # noqa: SLF001
        records = await self._fetch_records(
            consumer,
            wanted.partitions,
            timeout=wanted.wait_s,
            max_records=wanted.most,
        )
        found: Fetched = []
        for aiokafka_tp, part in records.items():
            tp = TP(aiokafka_tp.topic, aiokafka_tp.partition)
            if tp.topic in wanted.batched:
                found.append((tp, spans_of(Partition(*tp), part, wanted.span_records)))
            else:
                found.append((tp, part))
        return found
