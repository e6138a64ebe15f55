"""The role `hooks`: decisions and alerts out to the targets, one app and consumer group for each.

A target of its own group means that a slow or dead one delays no other, and that its position
survives. The rest is the agent's loop: decode, ask the filter, hand over to the `Deliverer`, and
confirm a span when all of it is resolved. What is sent, and when, stands in `stream.hooks`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from stream.hooks.beginning import begin
from stream.hooks.deliverer import Deliverer
from stream.hooks.events import Event, Place, decode_event
from stream.hooks.filters import passes
from stream.hooks.load import load_targets
from stream.hooks.log import Memory, log_partition, recent_alerts, remember
from stream.hooks.mutes import LOOK_EVERY_S, KeptBack, Loose, Mutes
from stream.hooks.outbox import Item, Outbox
from stream.hooks.repeater import Repeater
from stream.hooks.senders import sender_of
from stream.hooks.targets import RECORDS, Alertmanager, Target
from stream.hooks.watch import Ready, TargetsWatch
from stream.hooks.window import Ticket, Window
from stream.kafka.ledger import Partition, Span
from stream.kafka.packing import Output
from stream.kafka.publisher import Publisher
from stream.logs import get_logger
from stream.outcomes import Delivery
from stream.records import encode
from stream.roles import Role
from stream.settings import Settings
from stream.topics import ALERTS, DECISIONS, DELIVERIES, Topic

if TYPE_CHECKING:
    from stream.app import TidegateApp
    from stream.kafka.transport import BatchedTransport

log = get_logger(__name__)

#: A span is confirmed as a whole, and one stuck event keeps it: small ones keep little.
_SPAN_RECORDS: Final = 8
#: How many records, wanted or not, a target reads beyond the oldest that is not resolved.
_MOST_RECORDS: Final = 1_000_000
#: How many records may be out that are not confirmed, and how much memory they may take.
_MOST_OUT_RECORDS: Final = 50_000
_MOST_OUT_BYTES: Final = 64 << 20
#: What an alertmanager must hear again, and what a mute keeps back, is looked for in so many alerts
#: of each partition.
_ALERTS_READ: Final = 20_000


def prepare(settings: Settings) -> dict[str, Target]:
    """The targets, with every secret there.

    Raises:
        ConfigError: the file has mistakes, or a secret is missing.
    """
    targets = load_targets(settings.hooks)
    for name, target in targets.items():
        if target.enabled:
            sender_of(name, target, allow_private=settings.hooks.allow_private)
    return targets


def units(settings: Settings) -> Sequence[str]:
    """The names of the targets that are enabled."""
    targets = load_targets(settings.hooks)
    return [name for name, target in targets.items() if target.enabled]


def watch(settings: Settings) -> TargetsWatch:
    """The targets while the worker runs."""
    return TargetsWatch(settings.hooks)


def welcome(settings: Settings, loaded: Mapping[str, Ready]) -> None:
    """Settle where new targets begin.

    Raises:
        BrokerError: the broker does not answer.
    """
    begin(settings, {name: ready.target for name, ready in loaded.items()})


def attach(app: TidegateApp) -> None:
    """Add the agent of the app's target."""
    targets = app.prepared if app.prepared is not None else prepare(app.settings)
    target: Target = targets[app.unit]
    topics = [RECORDS[each] for each in dict.fromkeys(target.records)]
    names = [app.full_name(topic) for topic in topics]
    transport = cast("BatchedTransport", app.transport)
    transport.options = dataclasses.replace(
        transport.options,
        topics=frozenset(names),
        span_records=_SPAN_RECORDS,
        most_records=_MOST_OUT_RECORDS,
        most_bytes=_MOST_OUT_BYTES,
    )
    app.inputs = app.topic(*names, key_serializer="raw", value_serializer="raw", value_type=None)
    # A target that is down has work for days, and that is no stall.
    app.idle_with_work = True

    @app.agent(app.inputs, name="hooks")
    async def hooks(stream: Any) -> None:
        await app.learn_limits()
        agent = HookAgent(app, app.unit, target, topics)
        transport.working = lambda: agent.deliverer.working > 0
        app.progress = lambda: agent.deliverer.attempts
        unacknowledged = stream.noack()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(agent.run())
                async for event in unacknowledged.events():
                    await agent.put(event.value)
                    # For Faust's sensors; offsets are committed from the ledger alone.
                    await unacknowledged.ack(event)
        finally:
            await agent.close()


class HookAgent:
    """Between Kafka and the deliverer of one target.

    Args:
        app: the target's app.
        name: the target's.
        target: from the file.
        topics: what it reads.
    """

    def __init__(
        self, app: TidegateApp, name: str, target: Target, topics: Sequence[Topic]
    ) -> None:
        self._app = app
        self._name = name
        self._target = target
        self._kinds = {app.full_name(topic): topic for topic in topics}
        self._publisher: Publisher = app.publisher(_without_original)
        self._log_topic = app.full_name(DELIVERIES)
        self._to_write: list[tuple[Sequence[Delivery], asyncio.Future[None]]] = []
        self._written_soon = asyncio.Event()
        sender = sender_of(name, target, allow_private=app.settings.hooks.allow_private)
        self._repeater: Repeater | None = None
        if isinstance(target, Alertmanager):
            self._repeater = Repeater(sender, target.resend_s, target.batch.records)
        self._sender = self._repeater or sender
        self._window = Window(target.window, _MOST_RECORDS, app.ledger.confirm)
        self._room = asyncio.Event()
        self._learning = asyncio.Lock()
        self._generation: int | None = None
        self._memory = Memory([])
        self._mutes = Mutes()
        self._kept = KeptBack(self._mutes)
        self._loose = Loose()
        self.deliverer = Deliverer(
            name,
            Outbox(target.limits()),
            self._sender,
            record=self._record,
            resolved=self._resolved,
            paused=self._paused,
        )

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            group.create_task(self.deliverer.run())
            if ALERTS in self._kinds.values():
                group.create_task(self._tell_later())
            if self._repeater is not None:
                group.create_task(self._repeater.run(self._may_repeat))

    async def close(self) -> None:
        """Let go of connections."""
        await self._sender.close()

    async def put(self, spans: Sequence[Span]) -> None:
        """Take the spans of one fetch; waits while the target is too far ahead of its oldest."""
        await self._know_the_past()
        for span in spans:
            if self._kinds[span.partition.topic] is ALERTS:
                await asyncio.to_thread(self._mutes.read, self._app.settings.kafka)
            while not self._window.has_room and not span.dropped:
                self._room.clear()
                await self._room.wait()
            if self._app.ledger.take(span):
                self._take(span)

    def _take(self, span: Span) -> None:
        found = [
            event
            for record in span.records
            if (event := self._decoded(span.partition, record)) is not None
            and not self._kept.keeps(event, record.timestamp)
            and self._wants(event)
            and not self._memory.repeats(event)
            and not self._was_told(event)
        ]
        self._deliver(found, self._window.open(span, len(found)))

    def _deliver(self, events: Sequence[Event], ticket: Ticket | Loose) -> None:
        """Hand over, each at the step of its schedule that the log remembers."""
        now = time.time()
        schedule = self._target.retries
        items = []
        for event in events:
            item = Item(event, ticket, due=now + schedule[0], since=now)
            if (known := self._memory.of(event)) is not None:
                item.attempt, item.step = known.attempt, known.step(schedule)
                item.due, item.since = known.due, known.since
            items.append(item)
        self.deliverer.put(items)

    def _was_told(self, event: Event) -> bool:
        known = self._memory.of(event)
        return known is not None and known.state != "retrying"

    async def _tell_later(self) -> None:
        """When a mute ends, what it kept back and still fires."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._paused():
                continue
            # Also where no record comes that would ask for it.
            await self._know_the_past()
            if not len(self._kept):
                continue
            await asyncio.to_thread(self._mutes.read, self._app.settings.kafka)
            if not self._paused() and self._generation == self._app.consumer_generation_id:
                free = self._kept.release(int(time.time() * 1000))
                self._deliver([event for event in free if self._wants(event)], self._loose)

    def _decoded(self, partition: Partition, record: Any) -> Event | None:
        if record.value is None:
            return None
        topic = self._kinds[partition.topic]
        place = Place(partition.topic, partition.partition, record.offset)
        try:
            return decode_event("decision" if topic is DECISIONS else "alert", record.value, place)
        except msgspec.DecodeError as exc:
            log.error("record left out", place=str(place), reason=str(exc))  # noqa: TRY400 - no bug of ours
            return None

    def _wants(self, event: Event) -> bool:
        wanted = passes(self._target.filter, event, retractions=self._target.retractions)
        if self._repeater is not None and (wanted or event.type == "alert.resolved"):
            self._repeater.note(event)
        return wanted

    # -- rebalances and restarts

    def _paused(self) -> bool:
        """Whether a rebalance or the end is near; after one, what was taken away is forgotten."""
        if not self._flows or self._app.should_stop:
            return True
        if self._generation != self._app.consumer_generation_id:
            self._forget()
        return False

    def _forget(self) -> None:
        self._window.forget_dropped()
        self._loose.dropped = True
        self._loose = Loose()
        self.deliverer.outbox.discard(_is_dropped)
        self._room.set()

    async def _know_the_past(self) -> None:
        """With a new assignment, read what the log says of records that come once more."""
        async with self._learning:
            generation = self._app.consumer_generation_id
            if generation == self._generation:
                return
            self._forget()
            self._memory = await asyncio.to_thread(remember, self._app.settings.kafka, self._name)
            if ALERTS in self._kinds.values():
                await self._know_the_alerts()
            self._generation = generation
        log.info("hook starts", target=self._name, remembered=len(self._memory))

    async def _know_the_alerts(self) -> None:
        kafka = self._app.settings.kafka
        ours = {tp.partition for tp in self._app.consumer.assignment()}
        await asyncio.to_thread(self._mutes.read, kafka)
        alerts = await asyncio.to_thread(recent_alerts, kafka, ours, _ALERTS_READ)
        self._kept = KeptBack(self._mutes, self._was_told)
        self._kept.begin(alerts)
        if self._repeater is not None:
            self._repeater.begin(
                event
                for event, _ in alerts
                if not self._kept.holds(event)
                and passes(self._target.filter, event, retractions=False)
            )

    def _may_repeat(self) -> bool:
        outbox = self.deliverer.outbox
        is_closed = outbox.breaker.state(time.time()) == "closed"
        return self._flows and is_closed and outbox.disabled is None

    @property
    def _flows(self) -> bool:
        """Whether partitions are ours; false while a rebalance is on."""
        return bool(cast("Any", self._app.consumer).flow_active)

    # -- the log

    def _resolved(self, item: Item) -> None:
        ticket: Ticket | Loose = item.ticket
        ticket.resolve()
        self._room.set()

    async def _record(self, deliveries: Sequence[Delivery]) -> None:
        """Write to the log; returns when the broker has it."""
        written = asyncio.get_running_loop().create_future()
        self._to_write.append((deliveries, written))
        self._written_soon.set()
        await written

    async def _write(self) -> None:
        """One batch at a time, with all that came meanwhile: attempts end in crowds."""
        partition = await self._find_partition()
        key = self._name.encode()
        while True:
            await self._written_soon.wait()
            self._written_soon.clear()
            waiting, self._to_write = self._to_write, []
            outputs = [
                Output(self._log_topic, partition, key, encode(delivery), delivery)
                for deliveries, _ in waiting
                for delivery in deliveries
            ]
            packed = self._publisher.pack(outputs, time.time_ns() // 1_000_000)
            await self._publisher.confirm(await self._publisher.send(packed))
            for _, written in waiting:
                if not written.done():
                    written.set_result(None)

    async def _find_partition(self) -> int:
        producer = cast("Any", self._app.producer)._ensure_producer()  # noqa: SLF001 - Faust's name
        partitions = await producer.partitions_for(self._log_topic)
        return log_partition(self._name, len(partitions))


def _is_dropped(item: Item) -> bool:
    ticket: Ticket | Loose = item.ticket
    return ticket.dropped


def _without_original(output: Output, limit: int) -> Output:
    """A log record that its topic takes: the original is still where it was read."""
    delivery: Delivery = output.source
    error = f"{delivery.error or 'given up'} (the original is larger than the log takes: {limit})"
    smaller = msgspec.structs.replace(delivery, original=None, error=error)
    return Output(output.topic, output.partition, output.key, encode(smaller))


ROLE = Role(
    name="hooks",
    reads=(DECISIONS, ALERTS),
    writes=(DELIVERIES,),
    attach=attach,
    prepare=prepare,
    units=units,
    watch=watch,
    welcome=welcome,
    idle="no targets: `config/hooks.yaml` is not there, or has none",
)
