"""The role `decide`: labels and reviews in, decisions out. How stands in `stream.decisions`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from stream.agents.flowing import add_flow_agent
from stream.decisions.deciding import Deciding
from stream.decisions.readback import TopicReader
from stream.decisions.recovery import Names, Recovery
from stream.flow import Flow
from stream.logs import get_logger
from stream.policy import PolicyWatch
from stream.roles import Role
from stream.settings import Settings
from stream.topics import ALERTS, DEAD_LETTERS, DECISIONS, LABELS, QUOTAS, REVIEWS

if TYPE_CHECKING:
    from stream.app import TidegateApp
    from stream.kafka.transport import BatchedConsumer

log = get_logger(__name__)

#: How often time itself is looked at: another day, a changed file, the counts of other workers.
_TICK_S: Final = 1.0


def load(settings: Settings) -> PolicyWatch:
    """The policy of the settings.

    Raises:
        PolicyError: it cannot be loaded, with every mistake in it.
    """
    return PolicyWatch(settings.policy.path, reload_s=settings.policy.reload_s)


def attach(app: TidegateApp) -> None:
    """Add the agent and its clock."""
    fetched = 0

    def on_progress() -> None:
        nonlocal fetched
        fetched += 1

    app.progress = lambda: fetched
    kafka = app.settings.kafka

    @contextmanager
    def recovery() -> Iterator[Recovery]:
        with TopicReader(kafka, on_progress) as reader:
            yield Recovery(reader, Names.of(kafka.topic_prefix))

    deciding: Deciding | None = None

    async def start() -> Flow:
        nonlocal deciding
        watch = app.prepared
        if watch is None:
            watch = await asyncio.to_thread(load, app.settings)
        log.info("policy in force", version=watch.policy.version, rules=len(watch.policy.rules))
        deciding = Deciding(watch, kafka.topic_prefix, recovery)
        return app.new_flow(deciding, ordered=True)

    add_flow_agent(app, "decide", start)
    labels = app.full_name(LABELS)

    @app.timer(_TICK_S)  # type: ignore[untyped-decorator] # Faust's is not typed
    async def tick() -> None:
        consumer = cast("BatchedConsumer", app.consumer)
        if deciding is None or not consumer.flow_active:
            return
        assigned = {tp.partition for tp in consumer.assignment() if tp.topic == labels}
        if not assigned:
            return
        outputs = await asyncio.to_thread(deciding.tick, assigned, await app.partitions(LABELS))
        if outputs:
            publisher = app.publisher()
            packed = publisher.pack(outputs, time.time_ns() // 1_000_000)
            await publisher.confirm(await publisher.send(packed))


ROLE = Role(
    name="decide",
    reads=(LABELS, REVIEWS),
    writes=(DECISIONS, QUOTAS, ALERTS, DEAD_LETTERS),
    attach=attach,
    prepare=load,
)
