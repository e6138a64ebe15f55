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
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from faust.types import TP

from stream.agents.alert_evidence import examples_of
from stream.agents.alert_probe import Probe
from stream.agents.alert_recall import Recalled, recall
from stream.alerts.evaluator import Outcome
from stream.alerts.load import load_rules
from stream.alerts.memory import written_hours, written_state
from stream.alerts.rules import PipelineRule, RuleSet
from stream.kafka.ledger import Span
from stream.kafka.publisher import Output
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
    rules: RuleSet = app.prepared if app.prepared is not None else prepare(app.settings)

    @app.agent(app.inputs, name="alert")
    async def alert(stream: Any) -> None:
        await app.learn_limits()
        agent = AlertAgent(app, rules)
        app.progress = lambda: agent.seen
        unacknowledged = stream.noack()
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run())
            async for event in unacknowledged.events():
                await agent.put(event.value)
                # For Faust's sensors; offsets are committed from the ledger alone.
                await unacknowledged.ack(event)


def prepare(settings: Settings) -> RuleSet:
    """The rules.

    Raises:
        ConfigError: the file cannot be read.
        PolicyError: with every mistake in it.
    """
    return load_rules(settings.alerts.path)


class AlertAgent:
    """Between Kafka and the evaluator.

    Args:
        app: the role's app.
        rules: the rules.
    """

    def __init__(self, app: TidegateApp, rules: RuleSet) -> None:
        self._app = app
        self._rules = rules
        self._publisher = app.publisher()
        self._metrics = TP(app.full_name(METRICS), 0)
        self._turn = asyncio.Lock()
        self._recalled: Recalled | None = None
        self._generation: int | None = None
        self._done: deque[Span] = deque()
        self._waiting = 0
        self._remembered_s = 0.0
        self._probe: Probe | None = None
        if any(isinstance(rule, PipelineRule) and rule.on for rule in rules.rules):
            self._probe = Probe(app.settings)
        #: How many records and beats there were: the watchdog looks whether it grows.
        self.seen = 0

    async def run(self) -> None:
        """Move the clock and look at the pipeline, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._clock())
            if self._probe is not None:
                group.create_task(self._probe.run())

    async def put(self, spans: Sequence[Span]) -> None:
        """Evaluate what was read."""
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
        while True:
            await asyncio.sleep(_BEAT_S)
            async with self._turn:
                self.seen += 1
                recalled = await self._at_work()
                if recalled is not None and self._caught_up(recalled):
                    self._tell(recalled)
                    recalled.evaluator.begin(time.time())
                    await self._publish(recalled, recalled.evaluator.advance(time.time()))
                await self._remember_if_due()

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

    def _caught_up(self, recalled: Recalled) -> bool:
        """Whether what the clock says can be believed: nothing is on its way to `metrics`."""
        end = self._app.consumer.highwater(self._metrics)
        behind = self._probe is not None and self._probe.behind
        return end is not None and end <= recalled.places.next_offset and not behind

    def _tell(self, recalled: Recalled) -> None:
        if self._probe is not None:
            self._probe.tell(recalled.evaluator)

    async def _evaluate(self, recalled: Recalled, span: Span) -> None:
        self._tell(recalled)
        for record in span.records:
            await self._take(recalled, record.offset, record.value)

    async def _take(self, recalled: Recalled, offset: int, value: bytes | None) -> None:
        self.seen += 1
        if offset < recalled.places.next_offset:
            return
        metric = metric_of(value)
        evaluator = recalled.evaluator
        if metric is not None and metric.start <= time.time() + _AHEAD_S:
            await self._publish(recalled, evaluator.add(metric))
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
