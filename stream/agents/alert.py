"""The role `alert`: metrics in, alerts out. What fires and when stands in `stream.alerts`.

`metrics` has one partition: the process that holds it evaluates, the others stand by. The
invariant: alerts are confirmed by the broker before what was evaluated is remembered, and that
before offsets are committed. So after a kill a tick is evaluated again, never left out; and what
was published by then has the last word, so that it is never published twice.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from faust.types import TP

from stream.agents.alert_evidence import examples_of
from stream.agents.alert_probe import Probe
from stream.agents.alert_recall import Recalled, recall
from stream.agents.alert_watermark import Watch
from stream.alerts.evaluator import Outcome
from stream.alerts.memory import written_hours, written_state
from stream.alerts.rules import PipelineRule, RuleSet
from stream.alerts.watch import RulesWatch
from stream.kafka.ledger import Span
from stream.kafka.packing import Output
from stream.logs import get_logger
from stream.outcomes import Alert, Metric, decode_metric
from stream.records import encode
from stream.roles import Role
from stream.settings import Settings
from stream.topics import ALERT_STATE, ALERTS, BASELINES, METRICS

if TYPE_CHECKING:
    from stream.app import TidegateApp
    from stream.kafka.transport import BatchedConsumer

log = get_logger(__name__)

#: How often the clock is looked at.
_BEAT_S: Final = 0.5
#: What was evaluated is remembered so often, and when so many records wait for it.
_REMEMBER_S: Final = 10.0
_REMEMBER_RECORDS: Final = 1000
#: A metric whose window begins so far ahead of the clock was written by a clock that is wrong.
_AHEAD_S: Final = 120


def attach(app: TidegateApp) -> None:
    """Add the agent."""
    watch: RulesWatch = app.prepared if app.prepared is not None else prepare(app.settings)

    @app.agent(app.inputs, name="alert")
    async def alert(stream: Any) -> None:
        await app.learn_limits()
        agent = AlertAgent(app, watch)
        app.progress = lambda: agent.seen
        unacknowledged = stream.noack()
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run())
            async for event in unacknowledged.events():
                await agent.put(event.value)
                # For Faust's sensors; offsets are committed from the ledger alone.
                await unacknowledged.ack(event)


def prepare(settings: Settings) -> RulesWatch:
    """The rules, and what looks whether their file changed.

    Raises:
        ConfigError: the file cannot be read.
        PolicyError: with every mistake in it.
    """
    return RulesWatch(settings.alerts.path, reload_s=settings.alerts.reload_s)


class AlertAgent:
    """Between Kafka and the evaluator.

    Args:
        app: the role's app.
        rules: in force.
    """

    def __init__(self, app: TidegateApp, rules: RulesWatch) -> None:
        self._app = app
        self._watch = rules
        self._told: str | None = None
        self._publisher = app.publisher()
        self._metrics = TP(app.full_name(METRICS), 0)
        self._turn = asyncio.Lock()
        self._recalled: Recalled | None = None
        self._generation: int | None = None
        self._done: deque[Span] = deque()
        self._waiting = 0
        self._remembered_s = 0.0
        self._probe = Probe(app.settings, lambda: _asks(self._rules))
        self._under_way = Watch(app.settings)
        #: How many records and beats there were: the watchdog looks whether it grows.
        self.seen = 0

    async def run(self) -> None:
        """Move the clock and look at the pipeline, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clock())
            group.create_task(self._probe.run())
            group.create_task(self._under_way.run())

    @property
    def _rules(self) -> RuleSet:
        return self._watch.rules

    async def put(self, spans: Sequence[Span]) -> None:
        """Evaluate what was read."""
        await self._under_way.looked()
        async with self._turn:
            for span in spans:
                if not self._app.ledger.take(span):
                    continue
                recalled = await self._at_work()
                while recalled is None and not span.dropped:
                    await asyncio.sleep(_BEAT_S / 5)
                    recalled = await self._at_work()
                if recalled is None or span.dropped:
                    continue
                await self._evaluate(recalled, span)
                self._done.append(span)
                self._waiting += span.count
            await self._remember_if_due()

    async def _clock(self) -> None:
        await self._under_way.looked()
        while True:
            await asyncio.sleep(_BEAT_S)
            async with self._turn:
                self.seen += 1
                await self._reload()
                recalled = await self._at_work()
                if recalled is not None:
                    self._probe.tell(recalled.evaluator)
                    await self._publish(recalled, self._due(recalled))
                await self._remember_if_due()

    def _due(self, recalled: Recalled) -> Iterator[Outcome]:
        """What the wall clock brings: to the pipeline's rules always, to the others if it may."""
        now, evaluator = time.time(), recalled.evaluator
        yield from evaluator.watch(now)
        end = self._app.consumer.highwater(self._metrics)
        clock = self._under_way.clock(recalled.places.next_offset, now, self._rules.grace_s)
        if clock is not None and end is not None and end <= recalled.places.next_offset:
            evaluator.begin(clock)
            yield from evaluator.advance(clock)

    async def _reload(self) -> None:
        """Take over a changed file, as a restart would: with what is remembered and published."""
        before = self._rules
        if await asyncio.to_thread(self._watch.poll):
            log.info("alert rules reloaded", rules=len(self._rules.rules), before=len(before.rules))
            if self._recalled is not None and self._generation == self._app.consumer_generation_id:
                await self._remember(self._recalled)
            self._forget()
        error = self._watch.error
        told = None if error is None else str(error)
        if told is not None and told != self._told:
            log.error("alert rules not reloaded", reason=told, in_force=len(self._rules.rules))
        self._told = told

    async def _at_work(self) -> Recalled | None:
        """What is known, read back when the partition has become ours; None: it is not ours."""
        app = self._app
        consumer = cast("BatchedConsumer", app.consumer)
        if self._metrics not in consumer.assignment() or not consumer.flow_active:
            return self._recalled if self._generation == app.consumer_generation_id else None
        generation = app.consumer_generation_id
        if self._generation != generation:
            self._forget()
            recalled = await asyncio.to_thread(recall, app.settings, self._rules)
            if generation != app.consumer_generation_id:
                return None
            self._recalled, self._generation = recalled, generation
            log.info("evaluating", rules=len(self._rules.rules), **recalled.facts())
            for offset, value in recalled.take_missed():
                await self._take(recalled, offset, value)
        return self._recalled

    def _forget(self) -> None:
        self._recalled = self._generation = None
        self._done.clear()
        self._waiting = 0

    async def _evaluate(self, recalled: Recalled, span: Span) -> None:
        for record in span.records:
            await self._take(recalled, record.offset, record.value)

    async def _take(self, recalled: Recalled, offset: int, value: bytes | None) -> None:
        self.seen += 1
        if offset < recalled.places.next_offset:
            return
        metric = metric_of(value)
        evaluator = recalled.evaluator
        if metric is not None and metric.start <= time.time() + _AHEAD_S:
            hold = self._under_way.holds(offset)
            await self._publish(recalled, evaluator.add(metric, hold=hold))
        recalled.places.read(offset, evaluator.state.tick, self._rules.longest_s)

    async def _publish(self, recalled: Recalled, outcomes: Iterable[Outcome]) -> None:
        decided = list(outcomes)
        if not decided:
            return
        wanted = [outcome.evidence for outcome in decided]
        examples = await asyncio.to_thread(examples_of, self._app.settings.kafka, wanted)
        alerts = [
            msgspec.structs.replace(outcome.alert, examples=shown)
            for outcome, shown in zip(decided, examples, strict=True)
        ]
        if self._generation != self._app.consumer_generation_id:
            return
        await self._send([_output(self._app.full_name(ALERTS), alert) for alert in alerts])
        for alert in alerts:
            recalled.evaluator.published(alert)
            log.info("alert", state=alert.state, alert=alert.alert_id, severity=alert.severity)
        await self._remember(recalled)

    async def _remember_if_due(self) -> None:
        recalled, app = self._recalled, self._app
        if recalled is None or self._generation != app.consumer_generation_id:
            return
        # Somebody waits for what we hold: a rebalance, or a stop.
        flowing = cast("BatchedConsumer", app.consumer).flow_active
        asked = bool(self._done) and (not flowing or app.should_stop)
        late = time.monotonic() - self._remembered_s >= _REMEMBER_S and bool(self._done)
        if asked or late or self._waiting >= _REMEMBER_RECORDS:
            await self._remember(recalled)

    async def _remember(self, recalled: Recalled) -> None:
        """Write what is known; then the records it is made of are done."""
        at_ms = time.time_ns() // 1_000_000
        state = await asyncio.to_thread(written_state, recalled.evaluator, recalled.places, at_ms)
        name, hours = self._app.full_name(ALERT_STATE), self._app.full_name(BASELINES)
        outputs = [Output(name, 0, None, encode(piece)) for piece in state]
        outputs += [
            Output(hours, 0, baseline.rule.encode(), encode(baseline))
            for baseline in written_hours(recalled.evaluator)
        ]
        done = list(self._done)
        await self._send(outputs)
        self._remembered_s = time.monotonic()
        self._done.clear()
        self._waiting = 0
        self._app.ledger.confirm(done)

    async def _send(self, outputs: Sequence[Output]) -> None:
        packed = self._publisher.pack(outputs, time.time_ns() // 1_000_000)
        await self._publisher.confirm(await self._publisher.send(packed))


def _asks(rules: RuleSet) -> bool:
    """Whether any rule is about the pipeline."""
    return any(isinstance(rule, PipelineRule) and rule.on for rule in rules.rules)


def metric_of(value: bytes | None) -> Metric | None:
    """The metric in a record; None: it is none."""
    try:
        return decode_metric(value or b"")
    except (msgspec.DecodeError, RecursionError):
        log.warning("a record of `metrics` is no metric and was left out")
        return None


def _output(topic: str, alert: Alert) -> Output:
    return Output(topic, 0, alert.alert_id.encode(), encode(alert))


ROLE: Final = Role(
    name="alert",
    reads=(METRICS,),
    writes=(ALERTS, ALERT_STATE, BASELINES),
    attach=attach,
    prepare=prepare,
)
