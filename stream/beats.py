"""What a worker's process says of itself on `workers`: its role, its rate, how its models run.

Invariant: a beat is news and no work. One that cannot be sent is left out, nothing waits for it,
and where the topic is missing the worker does all it does otherwise.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final, cast

from aiokafka.errors import KafkaError

from models.packages import version_of
from stream.errors import TidegateError
from stream.kafka.packing import Output
from stream.logs import get_logger
from stream.outcomes import WORKER_SCHEMA, WorkerBeat
from stream.records import encode, rfc3339
from stream.roles import Duty
from stream.topics import WORKERS

if TYPE_CHECKING:
    from stream.app import TidegateApp
    from stream.kafka.transport import BatchedConsumer

log = get_logger(__name__)

#: A reader takes a process for gone after three of these.
BEAT_S: Final = 10.0
#: The first one comes soon: somebody may be waiting to see whether it started.
_FIRST_S: Final = 1.0


def add_beat(app: TidegateApp) -> None:
    """Say every few seconds that the app's process lives, from when it has started."""
    beats = _Beats(app)

    @app.task  # type: ignore[untyped-decorator] # Faust's is not typed
    async def beat() -> None:
        await app.sleep(_FIRST_S)
        while not app.should_stop:
            try:
                await beats.send()
            except (TidegateError, KafkaError, TimeoutError) as exc:
                log.debug("a beat was left out", reason=repr(exc))
            await app.sleep(BEAT_S)


class _Beats:
    """One process's: who it is, and what it had done at its last beat."""

    def __init__(self, app: TidegateApp) -> None:
        self._app = app
        self._role = Duty(app.role.name, app.unit).name
        self._host = socket.gethostname()
        self._began_ms = time.time_ns() // 1_000_000
        self._topic = app.full_name(WORKERS)
        self._there = False
        self._records = 0
        self._since = time.monotonic()

    async def send(self) -> None:
        """Send one, if there is a topic for it.

        Raises:
            DeliveryError: the broker did not confirm it.
            KafkaError: it does not answer.
        """
        if not self._there:
            # Sending to a topic that is missing would ask for it over and over.
            producer = cast("Any", self._app.producer)._ensure_producer()  # noqa: SLF001 - Faust's name
            known = await producer.client.fetch_all_metadata()
            self._there = bool(known.partitions_for_topic(self._topic))
            if not self._there:
                return
        beat = self._beat()
        publisher = self._app.publisher()
        output = Output(self._topic, 0, beat.worker_id.encode(), encode(beat))
        packed = publisher.pack([output], time.time_ns() // 1_000_000)
        await publisher.confirm(await publisher.send(packed))

    def _beat(self) -> WorkerBeat:
        app, now = self._app, time.monotonic()
        consumer = cast("BatchedConsumer", app.consumer)
        records = consumer.ledger.confirmed_records
        rate = (records - self._records) / max(now - self._since, 1e-3)
        self._records, self._since = records, now
        models = []
        if app.role.name == "label":
            from stream.scoring import models_in_use

            models = models_in_use(app.prepared)
        return WorkerBeat(
            schema=WORKER_SCHEMA,
            worker_id=f"{self._host}/{os.getpid()}/{self._began_ms}",
            role=self._role,
            host=self._host,
            pid=os.getpid(),
            version=version_of("tidegate") or "not installed",
            started_at=rfc3339(self._began_ms),
            at=rfc3339(time.time_ns() // 1_000_000),
            records=records,
            records_per_s=round(rate, 1),
            partitions=sorted(f"{tp.topic}[{tp.partition}]" for tp in consumer.assignment()),
            models=models,
        )
