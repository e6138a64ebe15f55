"""The Faust app: settings in, an app with the `label` agent out.

`create_app` makes one; `stream.app.app` is the one that `faust -A stream.app worker` runs, built
from the environment when first asked for, so that importing this module does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

import faust
import mode
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from yarl import URL

from models.scores import Scorer
from stream.agents.label import add_label_agent
from stream.flow import Flow
from stream.kafka.client import aiokafka_config, bootstrap_servers, ssl_context
from stream.kafka.fetching import MAX_PARTITION_FETCH_BYTES
from stream.kafka.publisher import Publisher
from stream.kafka.transport import BatchedConsumer, BatchedTransport, BatchOptions
from stream.pipeline import Pipeline
from stream.readiness import output_limits
from stream.settings import KafkaSettings, Settings, load_settings
from stream.topics import DEAD_LETTERS, LABELS, POSTS

#: Largest batch built for a partition: one produce request carries one batch per partition.
_PRODUCE_BATCH_BYTES: Final = 512 * 1024
#: Batches that wait for a free slot, beside those in flight: enough that none of them waits for
#: the consumer.
_QUEUED_BATCHES: Final = 4
#: A rebalance waits this long for the slowest member; also the longest wait for posts in flight.
_REBALANCE_TIMEOUT_S: Final = 30.0


class TidegateApp(faust.App):
    """A Faust app that writes nothing to disk and knows the flow of its agent."""

    logger = logging.getLogger("faust.app.tidegate")
    flow: Flow | None = None

    def _create_directories(self) -> None:
        """Tables are in memory: there is nothing to keep."""


def create_app(settings: Settings, scorer: Scorer | None = None) -> TidegateApp:
    """The app for these settings.

    Args:
        settings: all of them; the environment is not read.
        scorer: what scores; default: the preset of `settings.models`, loaded when the agent starts.
    """
    kafka, worker = settings.kafka, settings.worker
    servers = [URL(f"kafka://{server}") for server in bootstrap_servers(kafka)]
    posts, labels, dead_letters = (
        t.full_name(kafka.topic_prefix) for t in (POSTS, LABELS, DEAD_LETTERS)
    )
    most_records = worker.batch_posts * (worker.in_flight_batches + _QUEUED_BATCHES)
    app = TidegateApp(
        kafka.group,
        broker=servers,
        **_faust_settings(settings, most_records),
    )
    transport = BatchedTransport(
        servers,
        app,
        BatchOptions(
            topics=frozenset({posts}),
            span_records=worker.batch_posts,
            most_records=most_records,
            drain_timeout_s=min(worker.stop_timeout_s, _REBALANCE_TIMEOUT_S * 0.8),
        ),
    )
    app.transport = transport
    app.producer_transport = transport

    async def start_flow() -> Flow:
        limits = await asyncio.to_thread(output_limits, kafka)
        loaded = scorer if scorer is not None else await asyncio.to_thread(load_scorer, settings)
        pipeline = Pipeline(loaded, labels=labels, dead_letters=dead_letters)
        publisher = Publisher(
            cast("driver.Producer", app.producer)._ensure_producer,  # noqa: SLF001 - Faust's name
            max_batch_bytes=limits,
            timeout_s=kafka.request_timeout_s,
            instead=pipeline.instead_of,
        )
        app.flow = Flow(
            pipeline,
            publisher,
            cast("BatchedConsumer", app.consumer).ledger,
            batch_posts=worker.batch_posts,
            delay_s=worker.batch_delay_s,
            in_flight=worker.in_flight_batches,
        )
        flow = app.flow
        transport.working = lambda: flow.running
        return flow

    topic = app.topic(posts, key_serializer="raw", value_serializer="raw", value_type=None)
    add_label_agent(app, topic, start_flow)
    return app


def load_scorer(settings: Settings) -> Scorer:
    """The scorer of `settings.models`.

    Raises:
        ModelError: it cannot be loaded, with the reason.
    """
    from models.scorer import load_scorer as load

    models = settings.models
    return load(
        models.manifest,
        models.preset,
        device=models.device,
        threads=models.threads,
        batch_tokens=models.batch_tokens,
    )


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
        "producer_max_batch_size": _PRODUCE_BATCH_BYTES,
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
