"""Sends outputs to the partition number their input came from, whole batches at a time.

Invariant: `deliver` returns only when the broker has confirmed every output, and raises
`DeliveryError` otherwise; nobody may acknowledge an input before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from stream.errors import DeliveryError

#: Kafka's default for the largest batch a topic takes (`max.message.bytes`), less some headroom.
DEFAULT_MAX_BATCH_BYTES: Final = 1_000_000
#: Varints, lengths and checksums around a record, and the batch's header, never take more.
_RECORD_OVERHEAD: Final = 128


# A struct: there is one per post, and nothing is cheaper to make.
class Output(msgspec.Struct, frozen=True, gc=False):
    """A record to be sent; `source` is what it was made of. No value: the key is deleted."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    source: Any = None


@dataclass(slots=True)
class Packed:
    """Outputs of one topic and partition, packed for the wire; `room` is left, in bytes."""

    topic: str
    partition: int
    builder: Any
    room: int


def _size(key: bytes | None, value: bytes | None) -> int:
    return (
        (0 if value is None else len(value)) + (0 if key is None else len(key)) + _RECORD_OVERHEAD
    )


def _nowhere(**_: object) -> None:
    """Where the first record of all goes: nowhere yet."""


class Publisher:
    """Packs outputs (in any thread) and delivers them (on the event loop).

    Args:
        producer: gives the started aiokafka producer.
        max_batch_bytes: by topic, the largest batch the broker takes.
        timeout_s: a delivery not confirmed by then has failed.
        instead: makes what is sent instead of an output that is more than its topic takes; given
            the output and the limit.
    """

    def __init__(
        self,
        producer: Callable[[], Any],
        *,
        max_batch_bytes: dict[str, int] | None = None,
        timeout_s: float = 30.0,
        instead: Callable[[Output, int], Output] | None = None,
    ) -> None:
        self._producer = producer
        self._max_batch_bytes = max_batch_bytes or {}
        self._timeout_s = timeout_s
        self._instead = instead

    def pack(self, outputs: Iterable[Output], timestamp_ms: int) -> list[Packed]:
        """The outputs in batches, in their order within each topic and partition."""
        packed: list[Packed] = []
        current: dict[tuple[str, int], Packed] = {}
        batch: Packed | None = None
        topic, partition, room = "", -1, -1
        append: Callable[..., object] = _nowhere
        for output in outputs:
            key, value = output.key, output.value
            size = len(value or b"") + len(key or b"") + _RECORD_OVERHEAD
            if (
                size <= room
                and output.partition == partition
                and output.topic == topic
                and append(timestamp=timestamp_ms, key=key, value=value) is not None
            ):
                room -= size
                continue
            # Once per batch and change of lane; what is above is once per record.
            if batch is not None:
                batch.room = room
            batch = self._put(output, current, packed, timestamp_ms)
            topic, partition, room = batch.topic, batch.partition, batch.room
            append = batch.builder.append
        for full in packed:
            full.builder.close()  # a closed batch does not linger
        return packed

    def _put(
        self,
        output: Output,
        current: dict[tuple[str, int], Packed],
        packed: list[Packed],
        timestamp_ms: int,
    ) -> Packed:
        """Put an output into its lane's batch, or into a new one; returns that batch."""
        size = _size(output.key, output.value)
        limit = self._max_batch_bytes.get(output.topic, DEFAULT_MAX_BATCH_BYTES)
        if size > limit:
            output = self._smaller(output, limit)
            size = _size(output.key, output.value)
            limit = self._max_batch_bytes.get(output.topic, DEFAULT_MAX_BATCH_BYTES)
        lane = output.topic, output.partition
        record = {"timestamp": timestamp_ms, "key": output.key, "value": output.value}
        batch = current.get(lane)
        if batch is None or size > batch.room or batch.builder.append(**record) is None:
            batch = Packed(*lane, self._producer().create_batch(), limit)
            current[lane] = batch
            packed.append(batch)
            batch.builder.append(**record)
        batch.room -= size
        return batch

    def _smaller(self, output: Output, limit: int) -> Output:
        if output.source is None or self._instead is None:
            raise DeliveryError(
                f"a record of {len(output.value or b'')} bytes is more than the topic takes ({limit})",
                where=f"{output.topic}[{output.partition}]",
                hint="raise the topic's `max.message.bytes`",
            )
        return self._instead(output, limit)

    async def send(self, packed: Sequence[Packed]) -> list[asyncio.Future[Any]]:
        """Hand the batches to the producer, in order within a partition.

        Returns the deliveries to wait for with `confirm`.

        Raises:
            DeliveryError: the producer does not take them.
        """
        lanes: dict[tuple[str, int], list[Packed]] = {}
        for batch in packed:
            lanes.setdefault((batch.topic, batch.partition), []).append(batch)
        sent = await asyncio.gather(*(self._send_lane(lane) for lane in lanes.values()))
        return [future for lane in sent for future in lane]

    async def _send_lane(self, lane: Sequence[Packed]) -> list[asyncio.Future[Any]]:
        producer, sent = self._producer(), []
        for batch in lane:
            try:
                delivery = await asyncio.wait_for(
                    producer.send_batch(batch.builder, batch.topic, partition=batch.partition),
                    self._timeout_s,
                )
            except (KafkaError, AssertionError, TimeoutError) as exc:
                raise _delivery_error(exc, batch.topic, batch.partition) from exc
            delivery.add_done_callback(_looked_at)
            sent.append(delivery)
        return sent

    async def confirm(self, deliveries: Iterable[asyncio.Future[Any]]) -> None:
        """Wait until the broker has confirmed every one.

        Raises:
            DeliveryError: it did not, or not in time.
        """
        pending = list(deliveries)
        if not pending:
            return
        done, late = await asyncio.wait(pending, timeout=self._timeout_s)
        for future in done:
            if (error := future.exception()) is not None:
                raise _delivery_error(error) from error
        if late:
            raise DeliveryError(
                f"the broker did not confirm {len(late)} batches within {self._timeout_s:g} s",
                hint="is the broker up? Start the worker again: it goes on where it stopped",
            )


def _looked_at(delivery: asyncio.Future[Any]) -> None:
    """A delivery that fails after another has ended the worker is no news."""
    if not delivery.cancelled():
        delivery.exception()


def _delivery_error(
    error: BaseException, topic: str | None = None, partition: int = 0
) -> DeliveryError:
    where = None if topic is None else f"{topic}[{partition}]"
    if isinstance(error, AssertionError):
        return DeliveryError(
            "the output topic has no such partition",
            where=where,
            hint="posts, labels and dead letters need the same number of partitions: "
            "`tidegate topics create`",
        )
    if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
        return DeliveryError(
            "the topic takes smaller batches than it did when the worker started",
            where=where,
            hint="start the worker again: it asks for the limit when it starts",
        )
    reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return DeliveryError(
        f"an output was not delivered: {reason or type(error).__name__}",
        where=where,
        hint="nothing was committed past it: start the worker again and it goes on there",
    )
