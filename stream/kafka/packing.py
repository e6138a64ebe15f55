"""Packs outputs into Kafka's record batches, as they go over the wire, in any thread or process.

Invariant: a batch holds its lane's outputs in their order, and no batch is larger than its topic
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream.errors import DeliveryError

#: Kafka's default for the largest batch a topic takes (`max.message.bytes`), less some headroom.
DEFAULT_MAX_BATCH_BYTES: Final = 1_000_000
#: Largest batch built for a partition: one produce request carries one batch per partition.
BATCH_BYTES: Final = 512 * 1024
#: Varints, lengths and checksums around a record, and the batch's header, never take more.
_RECORD_OVERHEAD: Final = 128
_MAGIC: Final = 2
_NO_HEADERS: Final[list[tuple[str, bytes | None]]] = []


# A struct: there is one per post, and nothing is cheaper to make.
class Output(msgspec.Struct, frozen=True, gc=False):
    """A record to be sent; `source` is what it was made of. No value: the key is deleted."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    source: Any = None


class WireBatch:
    """A finished record batch: what aiokafka's producer asks of its own `BatchBuilder`."""

    __slots__ = ("_buffer", "_records")

    def __init__(self, buffer: bytes | bytearray, records: int) -> None:
        self._buffer = buffer
        self._records = records

    @property
    def buffer(self) -> bytes | bytearray:
        """The batch from its base offset to its last record, checksum and all."""
        return self._buffer

    def record_count(self) -> int:
        """How many records it holds."""
        return self._records

    def size(self) -> int:
        """Its bytes."""
        return len(self._buffer)

    def closed(self) -> bool:
        """It takes no more records, so the producer does not wait for any."""
        return True

    def close(self) -> None:
        """It is closed."""

    def append(self, **_: object) -> None:
        """It is full: None is how a builder says so."""

    def _build(self) -> bytes | bytearray:
        return self._buffer


@dataclass(frozen=True, slots=True)
class Packed:
    """Outputs of one topic and partition, packed for the wire."""

    topic: str
    partition: int
    builder: WireBatch


@dataclass(slots=True)
class _Open:
    """A batch that takes records; `room` is left of what its topic takes, in bytes."""

    topic: str
    partition: int
    room: int
    append: Callable[..., object]
    build: Callable[[], bytearray]
    records: int = 0


def _nowhere(*_: object) -> None:
    """Where the first record of all goes: nowhere yet."""


class Packer:
    """Packs outputs; knows what the topics take.

    Args:
        max_batch_bytes: by topic, the largest batch the broker takes.
        instead: makes what is sent instead of an output that is more than its topic takes; given
            the output and the limit.
        batch_bytes: no batch of several records is larger.
    """

    def __init__(
        self,
        max_batch_bytes: dict[str, int] | None = None,
        *,
        instead: Callable[[Output, int], Output] | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._max_batch_bytes = max_batch_bytes or {}
        self._instead = instead
        self._batch_bytes = batch_bytes

    def pack(self, outputs: Iterable[Output], timestamp_ms: int) -> list[Packed]:
        """The outputs in batches, in their order within each topic and partition.

        Raises:
            DeliveryError: an output is more than its topic takes, and nothing can go instead.
        """
        opened: list[_Open] = []
        current: dict[tuple[str, int], _Open] = {}
        batch: _Open | None = None
        topic, partition, room, records = "", -1, -1, 0
        append: Callable[..., object] = _nowhere
        for output in outputs:
            key, value = output.key, output.value
            size = len(value or b"") + len(key or b"") + _RECORD_OVERHEAD
            if (
                size <= room
                and output.partition == partition
                and output.topic == topic
                and append(records, timestamp_ms, key, value, _NO_HEADERS) is not None
            ):
                room -= size
                records += 1
                continue
            # Once per batch and change of lane; what is above is once per record.
            if batch is not None:
                batch.room, batch.records = room, records
            batch = self._put(output, current, opened, timestamp_ms)
            topic, partition = batch.topic, batch.partition
            room, records, append = batch.room, batch.records, batch.append
        if batch is not None:
            batch.records = records
        return [Packed(b.topic, b.partition, WireBatch(b.build(), b.records)) for b in opened]

    def _put(
        self,
        output: Output,
        current: dict[tuple[str, int], _Open],
        opened: list[_Open],
        timestamp_ms: int,
    ) -> _Open:
        """Put an output into its lane's batch, or into a new one; returns that batch."""
        size = _size(output)
        limit = self._limit(output.topic)
        if size > limit:
            output = self._smaller(output, limit)
            size, limit = _size(output), self._limit(output.topic)
        lane = output.topic, output.partition
        record = timestamp_ms, output.key, output.value, _NO_HEADERS
        batch = current.get(lane)
        if batch is None or size > batch.room or batch.append(batch.records, *record) is None:
            builder = DefaultRecordBatchBuilder(_MAGIC, 0, 0, -1, -1, 0, self._batch_bytes)
            batch = _Open(*lane, limit, builder.append, builder.build)
            current[lane] = batch
            opened.append(batch)
            batch.append(0, *record)
        batch.room -= size
        batch.records += 1
        return batch

    def _limit(self, topic: str) -> int:
        return self._max_batch_bytes.get(topic, DEFAULT_MAX_BATCH_BYTES)

    def _smaller(self, output: Output, limit: int) -> Output:
        if output.source is None or self._instead is None:
            raise DeliveryError(
                f"a record of {len(output.value or b'')} bytes is more than the topic takes ({limit})",
                where=f"{output.topic}[{output.partition}]",
                hint="raise the topic's `max.message.bytes`",
            )
        return self._instead(output, limit)


def _size(output: Output) -> int:
    return len(output.value or b"") + len(output.key or b"") + _RECORD_OVERHEAD
