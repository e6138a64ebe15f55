from __future__ import annotations

from collections.abc import Callable

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.offsets import OffsetRange, offset_ranges
from stream.settings import KafkaSettings
from stream.topics import CATALOGUE, DEAD_LETTERS, POSTS
from tests.conftest import Broker, kafka_settings


def _produce(kafka: KafkaSettings, topic: str, counts: dict[int, int], rounds: int = 2) -> None:
    """`rounds` batches per partition, `counts[partition]` records each."""
    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=50)
    for _ in range(rounds):
        for partition, count in counts.items():
            for number in range(count):
                producer.send(topic, b"%d" % number, partition=partition)
        producer.flush()
    producer.close()


def test_create_makes_the_catalogue_once(broker: Broker) -> None:
    kafka = kafka_settings(broker, partitions=3)
    names = [topic.full_name(kafka.topic_prefix) for topic in CATALOGUE]
    with open_admin(kafka) as admin:
        first = admin.create_missing()
        second = admin.create_missing()
        assert set(names) <= set(admin.names())
    assert [topic.name for topic in first] == names
    assert all(topic.created for topic in first)
    assert [topic.partitions for topic in first] == [3 if t.partitioned else 1 for t in CATALOGUE]
    assert not any(topic.created for topic in second)


def test_create_leaves_a_topic_that_is_there_alone(broker: Broker) -> None:
    kafka = kafka_settings(broker, partitions=2)
    with open_admin(kafka) as admin:
        admin.create_missing([POSTS])
    more = kafka.model_copy(update={"partitions": 5})
    with open_admin(more) as admin:
        created = {topic.name: topic for topic in admin.create_missing()}
        states = {state.name: state for state in admin.describe()}
    assert created[f"{kafka.topic_prefix}posts"].partitions == 2
    assert len(states["labels"].partitions) == 5
    assert any("partition number of its post" in each for each in states["posts"].problems)
    assert any("partition number of its post" in each for each in states["labels"].problems)


def test_describe_says_what_is_missing(broker: Broker) -> None:
    kafka = kafka_settings(broker)
    with open_admin(kafka) as admin:
        states = admin.describe()
    assert [state.name for state in states] == [topic.name for topic in CATALOGUE]
    assert not any(state.exists for state in states)
    assert all("tidegate topics create" in state.problems[0] for state in states)


def test_describe_counts_records_and_knows_the_retention(
    new_topics: Callable[..., KafkaSettings],
) -> None:
    kafka = new_topics(partitions=3)
    _produce(kafka, f"{kafka.topic_prefix}posts", {0: 7, 2: 1})
    with open_admin(kafka) as admin:
        state = admin.describe([POSTS])[0]
        dead = admin.describe([DEAD_LETTERS])[0]
    assert [(p.partition, p.first, p.end) for p in state.partitions] == [
        (0, 0, 14),
        (1, 0, 0),
        (2, 0, 2),
    ]
    assert state.records == 16
    assert state.problems == []
    assert state.retention_s == POSTS.retention_s
    assert dead.retention_s == DEAD_LETTERS.retention_s
    assert state.cleanup == "delete"
    assert all(p.leader >= 0 and p.in_sync == p.replicas == 1 for p in state.partitions)


def test_offsets_are_right_when_a_batch_holds_many_records(topics: KafkaSettings) -> None:
    name = f"{topics.topic_prefix}posts"
    _produce(topics, name, {0: 500, 1: 1})
    assert offset_ranges(topics, [(name, 0), (name, 1), (name, 2)]) == {
        (name, 0): OffsetRange(0, 1000),
        (name, 1): OffsetRange(0, 2),
        (name, 2): OffsetRange(0, 0),
    }
    assert offset_ranges(topics, []) == {}


def test_lag_counts_from_the_commit_and_from_the_beginning_without_one(
    topics: KafkaSettings,
) -> None:
    name = f"{topics.topic_prefix}posts"
    _produce(topics, name, {0: 10, 1: 5})
    with open_admin(topics) as admin:
        before = admin.lag()
    consumer = KafkaConsumer(
        **kafka_python_config(topics), group_id=topics.group, enable_auto_commit=False
    )
    consumer.assign([TopicPartition(name, 0)])
    consumer.commit({TopicPartition(name, 0): OffsetAndMetadata(13, "", -1)})
    consumer.close()
    with open_admin(topics) as admin:
        after = admin.lag()
    assert (before.group, before.lag) == (topics.group, 30)
    assert all(row.committed is None for row in before.partitions)
    assert after.lag == 17
    assert [(row.partition, row.committed, row.lag) for row in after.partitions][:2] == [
        (0, 13, 7),
        (1, None, 10),
    ]


def test_lag_without_topics_is_empty(broker: Broker) -> None:
    with open_admin(kafka_settings(broker)) as admin:
        assert admin.lag().partitions == []


@pytest.mark.kafka
def test_too_many_replicas_are_explained(apache_kafka: Broker) -> None:
    kafka = kafka_settings(apache_kafka, replication=3)
    with open_admin(kafka) as admin, pytest.raises(BrokerError) as raised:
        admin.create_missing()
    assert raised.value.where == f"{kafka.topic_prefix}posts"
    assert raised.value.hint is not None
    assert "`kafka.replication` is 3" in raised.value.hint


@pytest.mark.kafka
def test_a_setting_that_differs_from_the_catalogue_is_a_problem(apache_kafka: Broker) -> None:
    from kafka import KafkaAdminClient

    kafka = kafka_settings(apache_kafka)
    client = KafkaAdminClient(**kafka_python_config(kafka))
    name = f"{kafka.topic_prefix}posts"
    client.create_topics(
        {name: {"num_partitions": 1, "replication_factor": 1, "configs": {"retention.ms": "60000"}}}
    )
    client.wait_for_topics([name])
    client.close()
    with open_admin(kafka) as admin:
        state = admin.describe([POSTS])[0]
    assert state.retention_s == 60
    assert state.problems == ["`retention.ms` is 60000, the catalogue says 604800000"]


@pytest.mark.kafka
def test_members_of_a_group(apache_kafka: Broker) -> None:
    kafka = kafka_settings(apache_kafka)
    with open_admin(kafka) as admin:
        admin.create_missing([POSTS])
        assert admin.members() == []
        consumer = KafkaConsumer(
            f"{kafka.topic_prefix}posts", **kafka_python_config(kafka), group_id=kafka.group
        )
        for _ in range(20):
            consumer.poll(500)
            if members := admin.members():
                break
        consumer.close()
        assert [member.host for member in members] == ["127.0.0.1"]
        assert admin.members() == []


def test_the_embedded_broker_does_not_tell_who_is_in_a_group(embedded_broker: Broker) -> None:
    with (
        open_admin(kafka_settings(embedded_broker)) as admin,
        pytest.raises(BrokerError, match="does not tell who is in a group"),
    ):
        admin.members()
