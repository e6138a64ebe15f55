"""Sending again what a target did not get, or lost: by hand, from the delivery log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.errors import DeliveryError
from stream.hooks.deliverer import Deliverer
from stream.hooks.events import Event, Place, decode_event
from stream.hooks.log import LogFilter, events_at, log_partition, place_of, read_log
from stream.hooks.outbox import Item, Outbox
from stream.hooks.senders import sender_of
from stream.hooks.targets import Target
from stream.kafka.client import aiokafka_config, reason_of
from stream.outcomes import Delivery
from stream.records import encode
from stream.settings import KafkaSettings, Settings
from stream.topics import DELIVERIES


class Replayable(NamedTuple):
    """An event to send again, and how often it was tried."""

    event: Event
    attempt: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did; `left` was not tried, because the target fails."""

    delivered: int = 0
    failed: int = 0
    left: int = 0


def replayable(
    kafka: KafkaSettings, target: str, wanted: LogFilter, *, delivered: bool
) -> tuple[list[Replayable], int]:
    """What can be sent again, in the order of its records, and how many are gone.

    Args:
        kafka: the broker.
        target: the target's name.
        wanted: which deliveries; times and ids.
        delivered: also what was delivered.

    Raises:
        BrokerError: the broker does not answer.
    """
    last: dict[str, Delivery] = {}
    originals: dict[str, bytes] = {}
    for delivery in read_log(kafka, lambda d: d.target == target, target=target):
        key = delivery.delivery_id.rpartition("#")[0]
        last[key] = delivery
        if delivery.original is not None:
            originals[key] = delivery.original
    states = {"failed", "delivered"} if delivered else {"failed"}
    chosen = {key: d for key, d in last.items() if d.state in states and wanted(d)}
    events: list[Replayable] = []
    missing: dict[Place, int] = {}
    for key, delivery in chosen.items():
        place = place_of(delivery)
        event = _from_log(delivery, originals.get(key), place)
        if event is not None:
            events.append(Replayable(event, delivery.attempt))
        elif place is not None:
            missing[place] = delivery.attempt
    events += [
        Replayable(event, missing[event.place])
        for event in events_at(kafka, missing)
        if event.place is not None
    ]
    events.sort(key=lambda each: (each.event.at, each.event.place or Place("", 0, 0)))
    return events, len(chosen) - len(events)


def _from_log(delivery: Delivery, original: bytes | None, place: Place | None) -> Event | None:
    if original is None or place is None:
        return None
    with contextlib.suppress(msgspec.DecodeError):
        return decode_event("alert" if delivery.kind == "alert" else "decision", original, place)
    return None


async def replay_events(
    settings: Settings,
    name: str,
    target: Target,
    events: Sequence[Replayable],
    *,
    told: Callable[[], None] = lambda: None,
) -> Replayed:
    """Send each once, at the target's own rate, and log it.

    Raises:
        ConfigError: a secret is missing.
        DeliveryError: the log could not be written.
    """
    if not events:
        return Replayed()
    sender = sender_of(name, target, allow_private=settings.hooks.allow_private)
    limits = msgspec.structs.replace(target, retries=[0.0], breaker=target.breaker).limits()
    log = _Log(settings.kafka, name)
    deliverer = Deliverer(name, Outbox(limits), sender, record=log.write, resolved=lambda _: told())
    now = time.time()
    deliverer.put([Item(event, attempt=attempt, since=now) for event, attempt in events])
    try:
        await log.start()
        await deliverer.run_until_empty()
    finally:
        await log.stop()
        await sender.close()
    done, failed = deliverer.delivered, deliverer.failed
    return Replayed(done, failed, len(events) - done - failed)


class _Log:
    """The delivery log, written from the command line."""

    def __init__(self, kafka: KafkaSettings, target: str) -> None:
        self._kafka = kafka
        self._target = target
        self._topic = DELIVERIES.full_name(kafka.topic_prefix)
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(**aiokafka_config(self._kafka), acks="all")
        try:
            await self._producer.start()
        except KafkaError as exc:
            raise DeliveryError(f"no connection for the log: {reason_of(exc)}") from exc

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def write(self, deliveries: Sequence[Delivery]) -> None:
        assert self._producer is not None
        partitions = await self._producer.partitions_for(self._topic)
        partition = log_partition(self._target, len(partitions))
        try:
            futures = [
                await self._producer.send(
                    self._topic, encode(each), key=self._target.encode(), partition=partition
                )
                for each in deliveries
            ]
            await asyncio.gather(*futures)
        except KafkaError as exc:
            raise DeliveryError(
                f"the log could not be written: {reason_of(exc)}",
                hint="run the replay again: a receiver knows the ids",
            ) from exc
