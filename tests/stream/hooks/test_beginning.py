"""Where a new target begins, on real brokers; and that one which has begun goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from stream.errors import BrokerError
from stream.hooks import beginning
from stream.hooks.beginning import begin
from stream.hooks.load import parse_targets
from stream.kafka.client import aiokafka_config, kafka_python_config
from stream.settings import KafkaSettings, Settings
from stream.topics import ALERTS, DECISIONS
from tests.apache_kafka import ApacheKafka, free_ports
from tests.conftest import topics_on

HOUR_S = 3600


def publish(kafka: KafkaSettings, hours_ago: list[float]) -> None:
    """Records so old in both partitions of `decisions`, and in `alerts`."""
    asyncio.run(_publish(kafka, hours_ago))


async def _publish(kafka: KafkaSettings, hours_ago: list[float]) -> None:
    producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all")
    await producer.start()
    now_ms = time.time_ns() // 1_000_000
    try:
        for hours in hours_ago:
            at_ms = now_ms - int(hours * HOUR_S * 1000)
            for topic, partition in ((DECISIONS, 0), (DECISIONS, 1), (ALERTS, 0)):
                name = topic.full_name(kafka.topic_prefix)
                await producer.send_and_wait(name, b"{}", partition=partition, timestamp_ms=at_ms)
    finally:
        await producer.stop()


@contextmanager
def group(kafka: KafkaSettings, name: str) -> Iterator[Any]:
    consumer = KafkaConsumer(
        **kafka_python_config(kafka),
        group_id=f"{kafka.group}-hook-{name}",
        enable_auto_commit=False,
    )
    with closing(consumer):
        yield consumer


def places(kafka: KafkaSettings) -> list[TopicPartition]:
    decisions, alerts = (t.full_name(kafka.topic_prefix) for t in (DECISIONS, ALERTS))
    return [TopicPartition(decisions, 0), TopicPartition(decisions, 1), TopicPartition(alerts, 0)]


def begun(kafka: KafkaSettings, name: str) -> list[int | None]:
    """What the target has committed, of both partitions of decisions, and of alerts."""
    with group(kafka, name) as consumer:
        return [consumer.committed(place) for place in places(kafka)]


def begin_all(kafka: KafkaSettings, **fields: str) -> None:
    lines = "".join(
        f"  {name}: {{type: slack, url_env: U{more}}}\n" for name, more in fields.items()
    )
    begin(Settings(kafka=kafka), parse_targets(f"targets:\n{lines}"))


@pytest.fixture
def kafka(topics: KafkaSettings) -> KafkaSettings:
    return topics


def test_a_new_target_begins_now_or_as_far_back_as_it_asks(kafka: KafkaSettings) -> None:
    publish(kafka, [30, 20, 3, 0.1])
    begin_all(
        kafka, new="", day=", since: 24h", all=", since: 7d", alerts=", records: [alerts]", none=", since: 0"
    )  # fmt: skip
    assert begun(kafka, "new") == begun(kafka, "none") == [4, 4, 4]
    assert begun(kafka, "day") == [1, 1, 1]
    assert begun(kafka, "all") == [0, 0, 0]
    assert begun(kafka, "alerts") == [None, None, 4]

    # Who has begun goes on, whatever it asks now; what is new to it begins.
    publish(kafka, [0.01])
    begin_all(kafka, new=", since: 7d", day="", alerts=", since: 2h")
    assert begun(kafka, "new") == [4, 4, 4]
    assert begun(kafka, "day") == [1, 1, 1]
    assert begun(kafka, "alerts") == [3, 3, 4]


def test_a_partition_that_was_added_is_read_from_its_beginning(
    kafka: KafkaSettings,
) -> None:
    publish(kafka, [1])
    first, *_ = places(kafka)
    with group(kafka, "old") as consumer:
        consumer.assign([first])
        consumer.commit({first: OffsetAndMetadata(0, "", -1)})
    begin_all(kafka, old="")
    assert begun(kafka, "old") == [0, None, 1], "`alerts` was none of its topics"


@pytest.mark.kafka
def test_a_group_that_somebody_is_in_is_left_alone(
    apache_kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker begins with the target in the same moment."""
    kafka = topics_on(apache_kafka, partitions=2)
    monkeypatch.setattr(beginning, "_TRIES", 2)
    monkeypatch.setattr(beginning, "_PAUSE_S", 0.01)
    publish(kafka, [1])
    with group(kafka, "shared") as other:
        other.subscribe([place.topic for place in places(kafka)])
        while not other.assignment():
            other.poll(timeout_ms=100)
        begin_all(kafka, shared="")
    assert begun(kafka, "shared") == [None] * 3


def test_no_targets_ask_nobody_and_a_broker_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KafkaConsumer.DEFAULT_CONFIG, "bootstrap_timeout_ms", 200)
    nobody = KafkaSettings(bootstrap=f"127.0.0.1:{free_ports(1)[0]}")  # type: ignore[call-arg]
    begin(Settings(kafka=nobody), {})
    with pytest.raises(BrokerError, match="cannot be read"):
        begin_all(nobody, a="")
