"""Sends packed outputs, whole batches at a time, and waits for the broker.

Invariant: `confirm` returns only when the broker has confirmed every output, and raises
`DeliveryError` otherwise; nobody may acknowledge an input before it returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from stream.errors import DeliveryError
from stream.kafka.packing import Output, Packed, Packer


class Publisher:
    """Packs outputs (in any thread) and delivers them (on the event loop).

    Args:
        producer: gives the started aiokafka producer.
        packer: packs; default: one that knows no limits but Kafka's own.
        timeout_s: a delivery not confirmed by then has failed.
    """

    def __init__(
        self,
        producer: Callable[[], Any],
        packer: Packer | None = None,
        *,
        timeout_s: float = 30.0,
    ) -> None:
        self._producer = producer
        self.packer = packer or Packer()
        self._timeout_s = timeout_s

    def pack(self, outputs: Iterable[Output], timestamp_ms: int) -> list[Packed]:
        """As of `Packer`."""
        return self.packer.pack(outputs, timestamp_ms)

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
