"""What a worker's process says of itself, as a process, on a real broker."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.outcomes import decode_worker_beat
from stream.records import Post, encode
from stream.settings import KafkaSettings
from stream.topics import LABELS, POSTS, WORKERS, Topic
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings


def first_record(kafka: KafkaSettings, topic: Topic) -> bytes:
    """The first that comes on partition 0."""
    config = kafka_python_config(kafka)
    place = TopicPartition(topic.full_name(kafka.topic_prefix), 0)
    with closing(KafkaConsumer(**config, enable_auto_commit=False)) as consumer:
        consumer.assign([place])
        consumer.seek_to_beginning()
        deadline = time.monotonic() + 60
        while not (found := consumer.poll(500).get(place)):
            assert time.monotonic() < deadline, f"nothing on `{topic.name}`"
        value: bytes = found[0].value
        return value


#: As in a checkout that is not installed: there is no metadata of the package.
_BARE = """
import importlib.metadata as metadata
known = metadata.version
def version(name):
    if name == "tidegate":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
from stream.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("told", "installed"),
    [(True, True), (False, True), (True, False)],
    ids=["topic", "no-topic", "not-installed"],
)
def test_a_worker_says_how_it_does_and_works_where_it_cannot(
    told: bool, installed: bool, embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    kafka = kafka_settings(embedded_broker, partitions=1)
    with open_admin(kafka) as topics:
        topics.create_missing()
    config = kafka_python_config(kafka)
    if not told:
        with closing(KafkaAdminClient(**config)) as admin:
            admin.delete_topics([WORKERS.full_name(kafka.topic_prefix)])
    with closing(KafkaProducer(**config)) as producer:
        post = encode(Post(id="p1", text="a quiet post"))
        producer.send(POSTS.full_name(kafka.topic_prefix), post, partition=0).get(20)
    # The preset that scores without a model says nothing of models; the browser's tests have one.
    env = kafka_environment(kafka) | {"TIDEGATE_MODELS__PRESET": "null"}
    command = [TIDEGATE] if installed else [sys.executable, "-c", _BARE]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "worker", "--role", "label"],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=clean_environment(env),
            cwd=tmp_path,
        )
    try:
        assert first_record(kafka, LABELS)
        if told:
            beat = decode_worker_beat(first_record(kafka, WORKERS))
            assert beat.role == "label"
            assert beat.worker_id == f"{beat.host}/{beat.pid}/{beat.worker_id.rsplit('/', 1)[1]}"
            assert beat.started_at <= beat.at
            assert beat.models == []
            assert (beat.version == "not installed") is not installed
    finally:
        worker.terminate()
        code = worker.wait(30)
    assert code == 0, (tmp_path / "log").read_text()
