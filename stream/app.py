"""The Faust app of a role: settings in, an app with the role's agent out.

`create_app` makes one; `stream.app.app` is the one that `faust -A stream.app worker` runs, that of
`label`, built from the environment when first asked for, so that importing this module does
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, cast

import faust
import mode
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from yarl import URL

from stream.agents.label import load_scorer
from stream.beats import add_beat
from stream.flow import BatchPipeline, Computer, Flow, PackedPipeline
from stream.kafka.client import aiokafka_config, bootstrap_servers, ssl_context
from stream.kafka.fetching import MAX_PARTITION_FETCH_BYTES
from stream.kafka.ledger import Ledger
from stream.kafka.offsets import partition_ends
from stream.kafka.packing import BATCH_BYTES, Output, Packer
from stream.kafka.publisher import Publisher
from stream.kafka.transport import BatchedConsumer, BatchedTransport, BatchOptions
from stream.readiness import output_limits
from stream.roles import Duty, Role, group_of, role_named
from stream.settings import KafkaSettings, Settings, load_settings
from stream.topics import Topic

__all__ = ["TidegateApp", "create_app", "load_scorer"]

#: Batches that wait for a free slot, beside those in flight: enough that none of them waits for
#: the consumer.
_QUEUED_BATCHES: Final = 4
#: A rebalance waits this long for the slowest member; also the longest wait for posts in flight.
_REBALANCE_TIMEOUT_S: Final = 30.0


class TidegateApp(faust.App):
    """The Faust app of one role: it writes nothing to disk and knows its inputs and outputs."""

    logger = logging.getLogger("faust.app.tidegate")
    settings: Settings
    role: Role
    #: Of a role with several units (hooks: a target) this app's.
    unit: str = ""
    #: What the role's `prepare` gave.
    prepared: Any = None
    #: The role's input topics as one Faust topic.
    inputs: Any
    #: By full name, the largest batch that an output topic takes.
    limits: dict[str, int]
    flow: Flow | None = None
    #: Changes while work is being done that confirms nothing yet: the watchdog looks at it.
    progress: Callable[[], object] | None = None
    #: Records may lie in this role's hands for as long as it takes: the watchdog lets them.
    idle_with_work: bool = False

    def _create_directories(self) -> None:
        """Tables are in memory: there is nothing to keep."""

    @property
    def ledger(self) -> Ledger:
        """What was handed out to the agent and is not confirmed."""
        return cast("BatchedConsumer", self.consumer).ledger

    def full_name(self, topic: Topic) -> str:
        """The topic's name on the broker."""
        return topic.full_name(self.settings.kafka.topic_prefix)

    async def partitions(self, topic: Topic) -> int:
        """How many partitions a topic has."""
        producer = cast("driver.Producer", self.producer)._ensure_producer()  # noqa: SLF001 - Faust's name
        return len(await producer.partitions_for(self.full_name(topic)))

    async def learn_limits(self) -> None:
        """Ask the broker what the output topics take; call it before `publisher`.

        Raises:
            BrokerError: a topic of the role is missing, or does not fit the others.
        """
        self.limits = await asyncio.to_thread(
            output_limits, self.settings.kafka, self.role.reads, self.role.writes
        )

    def publisher(self, instead: Callable[[Output, int], Output] | None = None) -> Publisher:
        """What delivers this role's outputs.

        Args:
            instead: what is sent in place of an output that is more than its topic takes.
        """
        return Publisher(
            cast("driver.Producer", self.producer)._ensure_producer,  # noqa: SLF001 - Faust's name
            Packer(self.limits, instead=instead),
            timeout_s=self.settings.kafka.request_timeout_s,
        )

    def new_flow(
        self,
        pipeline: BatchPipeline,
        *,
        instead: Callable[[Output, int], Output] | None = None,
        ordered: bool = False,
    ) -> Flow:
        """The flow of this role's agent, computed in threads.

        Args:
            pipeline: from spans to outputs.
            instead: as in `publisher`.
            ordered: call the pipeline from one thread, in the order of the records.
        """
        publisher = self.publisher(instead)
        return self.flow_of(PackedPipeline(pipeline, publisher.pack), publisher, ordered=ordered)

    def flow_of(
        self,
        computer: Computer,
        publisher: Publisher,
        *,
        ordered: bool = False,
        watch: Callable[[], Coroutine[None, None, None]] | None = None,
    ) -> Flow:
        """The flow around a computer, wherever that computes; see `new_flow` and `Flow`."""
        worker = self.settings.worker
        flow = Flow(
            computer,
            publisher,
            self.ledger,
            batch_posts=worker.batch_posts,
            delay_s=worker.batch_delay_s,
            in_flight=worker.in_flight_batches,
            threads=1 if ordered else None,
            unpartitioned=frozenset(
                self.full_name(topic) for topic in self.role.writes if not topic.partitioned
            ),
            watch=watch,
        )
        self.flow = flow
        transport = cast("BatchedTransport", self.transport)
        transport.working = lambda: flow.running
        transport.busy = lambda: flow.busy
        return flow


def create_app(
    settings: Settings, prepared: Any = None, *, role: str = "label", unit: str = ""
) -> TidegateApp:
    """The app for these settings.

    Args:
        settings: all of them; the environment is not read.
        prepared: what the role's `prepare` would load; for `label` the scorer. Default: it is
            loaded when the agent starts.
        role: its name in the catalogue of `stream.roles`.
        unit: for a role with several units.
    """
    kafka, worker = settings.kafka, settings.worker
    played = role_named(role)
    servers = [URL(f"kafka://{server}") for server in bootstrap_servers(kafka)]
    most_records = (
        worker.batch_posts * (worker.in_flight_batches + _QUEUED_BATCHES)
        if played.most_records is None
        else played.most_records(settings)
    )
    extra = {} if played.faust_settings is None else played.faust_settings(settings)
    app = TidegateApp(
        group_of(settings, Duty(role, unit)),
        broker=servers,
        **(_faust_settings(settings, most_records) | extra),
    )
    app.settings, app.role, app.unit, app.prepared = settings, played, unit, prepared
    app.limits = {}
    names = [topic.full_name(kafka.topic_prefix) for topic in played.reads]
    transport = BatchedTransport(
        servers,
        app,
        BatchOptions(
            topics=frozenset(names if played.batched else ()),
            span_records=worker.batch_posts,
            most_records=most_records,
            drain_timeout_s=min(worker.stop_timeout_s, _REBALANCE_TIMEOUT_S * 0.8),
            changelogs=frozenset(t.full_name(kafka.topic_prefix) for t in played.changelogs),
        ),
        partition_ends=partial(partition_ends, kafka),
    )
    app.transport = transport
    app.producer_transport = transport
    app.inputs = app.topic(*names, key_serializer="raw", value_serializer="raw", value_type=None)

    played.attach(app)
    add_beat(app)
    return app


def _faust_settings(settings: Settings, most_records: int) -> dict[str, Any]:
    """Why each differs from Faust's default stands in docs/reliability.md."""
    kafka, worker = settings.kafka, settings.worker
    request_timeout_s = max(kafka.request_timeout_s, _REBALANCE_TIMEOUT_S + 10)
    return {
        # Faust reads un-prefixed variables such as BROKER_URL from the environment otherwise.
        "env": {},
        "autodiscover": False,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
        "agent_supervisor": mode.CrashingSupervisor,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "table_standby_replicas": 0,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "broker_credentials": _credentials(kafka),
        "broker_commit_interval": worker.commit_interval_s,
        # Counts messages, and a commit inside the drain loop would hold up reading.
        "broker_commit_every": 1 << 30,
        "broker_session_timeout": kafka.session_timeout_s,
        "broker_heartbeat_interval": min(3.0, kafka.session_timeout_s / 4),
        "broker_rebalance_timeout": _REBALANCE_TIMEOUT_S,
        "broker_request_timeout": max(request_timeout_s, kafka.session_timeout_s),
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": MAX_PARTITION_FETCH_BYTES,
        "consumer_group_instance_id": worker.instance,
        # All replicas. Not idempotent: the embedded broker cannot, a duplicate label changes nothing,
        # and with it aiokafka would retry for ever; one request in flight keeps the order.
        "producer_acks": -1,
        "producer_request_timeout": kafka.request_timeout_s,
        "producer_max_batch_size": BATCH_BYTES,
        # The ledger bounds what is out; the queue must never be what is full.
        "stream_buffer_maxsize": 2 * most_records,
        "stream_wait_empty": True,
    }


def _credentials(kafka: KafkaSettings) -> Any:
    context = ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        aiokafka_config(kafka)  # names what is missing
        assert kafka.password is not None
        return SASLCredentials(
            username=kafka.username,
            password=kafka.password.get_secret_value(),
            ssl_context=context,
            mechanism=kafka.sasl_mechanism,
        )
    return None if context is None else SSLCredentials(context)


def __getattr__(name: str) -> Any:
    """`app`, built from the environment when Faust's own command line asks for it."""
    if name != "app":
        raise AttributeError(name)
    made = create_app(load_settings())
    globals()["app"] = made
    return made
