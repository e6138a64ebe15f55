from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.errors import PostError
from stream.kafka.client import kafka_python_config
from stream.records import MAX_ORIGINAL_BYTES, DeadLetter, Origin, dead_letter_of, encode
from stream.settings import KafkaSettings
from tests.conftest import TIDEGATE, RunTidegate, clean_environment, kafka_environment

_HOUR_MS = 3_600_000


def _letter(
    kafka: KafkaSettings,
    value: bytes,
    *,
    offset: int,
    partition: int = 0,
    reason: str = "not-json",
    hours_ago: int = 0,
    topic: str = "posts",
    attempt: int = 1,
) -> DeadLetter:
    return dead_letter_of(
        PostError(reason, f"it is {reason}"),
        value,
        at_ms=int(datetime.now(UTC).timestamp() * 1000) - hours_ago * _HOUR_MS,
        origin=Origin(
            topic=f"{kafka.topic_prefix}{topic}", partition=partition, offset=offset, timestamp_ms=0
        ),
        key=f"author-{partition}".encode(),
        attempt=attempt,
    )


def _send(kafka: KafkaSettings, values: list[bytes | DeadLetter]) -> None:
    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=50)
    for number, value in enumerate(values):
        producer.send(
            f"{kafka.topic_prefix}dead-letters",
            encode(value) if isinstance(value, DeadLetter) else value,
            partition=number % kafka.partitions,
        )
    producer.flush()
    producer.close()


def _posts(kafka: KafkaSettings, expected: int) -> list[Any]:
    """Everything in the topic `posts`, which must be `expected` records."""
    topic = f"{kafka.topic_prefix}posts"
    consumer = KafkaConsumer(**kafka_python_config(kafka), auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, number) for number in range(kafka.partitions)])
    found: list[Any] = []
    for _ in range(20):
        found += [record for records in consumer.poll(500).values() for record in records]
        if len(found) >= expected:
            break
    found += [record for records in consumer.poll(200).values() for record in records]
    consumer.close()
    return found


@pytest.fixture
def topics(embedded_topics: KafkaSettings) -> KafkaSettings:
    """What is listed and what is asked is the program's; only sending is done on both brokers."""
    return embedded_topics


@pytest.fixture
def cli(run_tidegate: RunTidegate) -> Callable[..., Any]:
    """`cli(kafka, ...)` runs `tidegate dead-letters ARGS --json` against it; gives the JSON."""

    def run(kafka: KafkaSettings, *args: str) -> Any:
        done = run_tidegate("dead-letters", *args, "--json", env=kafka_environment(kafka))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_list_count_and_filters(topics: KafkaSettings, cli: Callable[..., Any]) -> None:
    _send(
        topics,
        [
            _letter(topics, b"{", offset=1, hours_ago=5),
            _letter(topics, b"[]", offset=2, reason="not-an-object", hours_ago=3),
            _letter(topics, b"{", offset=3, hours_ago=1),
            _letter(topics, b"{", offset=3, hours_ago=1),  # written twice by a crash
            _letter(topics, b"{", offset=4, topic="labels"),
            b"no dead letter at all",
        ],
    )
    posts = f"{topics.topic_prefix}posts"
    listed = cli(topics, "list")["dead_letters"]
    assert [row["dead_letter_id"] for row in listed] == [
        f"{topics.topic_prefix}labels/0/4",
        f"{posts}/0/3",
        f"{posts}/0/2",
        f"{posts}/0/1",
    ]
    assert not any("original" in row for row in listed)
    assert len(cli(topics, "list", "--limit", "2")["dead_letters"]) == 2
    assert cli(topics, "count") == {"total": 4, "reasons": {"not-json": 3, "not-an-object": 1}}
    assert cli(topics, "count", "--topic", "posts")["total"] == 3
    assert cli(topics, "count", "--topic", posts, "--since", "2h")["total"] == 1
    assert cli(topics, "count", "--reason", "not-an-object", "--reason", "no-text")["total"] == 1


def test_an_empty_topic_is_no_error(topics: KafkaSettings, cli: Callable[..., Any]) -> None:
    assert cli(topics, "list") == {"dead_letters": []}
    assert cli(topics, "count") == {"total": 0, "reasons": {}}
    assert cli(topics, "replay") == {"replayed": 0, "topics": {}, "kept": {}}


def test_show_gives_the_original_and_is_harmless_on_a_terminal(
    topics: KafkaSettings, run_tidegate: RunTidegate, cli: Callable[..., Any]
) -> None:
    value = b'{"text": "caf\xe9 \x1b[31m'
    _send(topics, [_letter(topics, value, offset=9)])
    name = f"{topics.topic_prefix}posts/0/9"
    environment = kafka_environment(topics)
    shown = run_tidegate("dead-letters", "show", name, env=environment)
    assert shown.returncode == 0
    assert r'{"text": "caf\xe9 \x1b[31m' in shown.stdout
    assert "\x1b" not in shown.stdout
    by_place = cli(topics, "show", f"{topics.topic_prefix}dead-letters/0/0")
    assert by_place["dead_letter_id"] == name
    missing = run_tidegate("dead-letters", "show", "posts/0/1", env=environment)
    assert missing.returncode == 2
    assert "no dead letter has the id `posts/0/1`" in missing.stderr


def test_replay_sends_the_original_back_with_key_partition_and_attempt(
    new_topics: Callable[..., KafkaSettings], cli: Callable[..., Any]
) -> None:
    topics = new_topics()
    mended = b'{"id": "1", "text": "harmless"}'
    _send(
        topics,
        [
            _letter(topics, mended, offset=1, partition=2),
            _letter(topics, mended, offset=1, partition=2),
            _letter(topics, b"\x00\xff", offset=2, partition=1, attempt=3),
            _letter(topics, b"x" * (MAX_ORIGINAL_BYTES + 1), offset=3, reason="too-large"),
            dead_letter_of(
                PostError("empty", "the line has no post"), b"", at_ms=0, source_input="f.csv:3"
            ),
            _letter(topics, b"{}", offset=4, topic="not-there"),
        ],
    )
    posts = f"{topics.topic_prefix}posts"
    kept = {"incomplete": 1, "no-topic": 1, "topic-gone": 1}
    assert cli(topics, "replay", "--dry-run") == {"replayed": 2, "topics": {posts: 2}, "kept": kept}
    assert _posts(topics, 0) == []
    assert cli(topics, "replay") == {"replayed": 2, "topics": {posts: 2}, "kept": kept}
    records = {record.value: record for record in _posts(topics, 2)}
    assert set(records) == {mended, b"\x00\xff"}
    first, second = records[mended], records[b"\x00\xff"]
    assert (first.partition, first.key) == (2, b"author-2")
    assert dict(first.headers)["tidegate-attempt"] == b"2"
    assert (second.partition, second.key) == (1, b"author-1")
    assert dict(second.headers)["tidegate-attempt"] == b"4"


def test_replay_takes_the_filters_and_the_oldest_first(
    topics: KafkaSettings, cli: Callable[..., Any]
) -> None:
    _send(
        topics,
        [
            _letter(topics, b"newer", offset=1, hours_ago=1),
            _letter(topics, b"older", offset=2, hours_ago=2),
            _letter(topics, b"[]", offset=3, hours_ago=9, reason="not-an-object"),
        ],
    )
    assert cli(topics, "replay", "--reason", "not-json", "--limit", "1")["replayed"] == 1
    assert [record.value for record in _posts(topics, 1)] == [b"older"]


@pytest.mark.parametrize(("answer", "sent"), [(b"n\n", 0), (b"y\n", 1)])
def test_replay_asks_on_a_terminal(topics: KafkaSettings, answer: bytes, sent: int) -> None:
    _send(topics, [_letter(topics, b"{", offset=1)])
    terminal, terminals_other_end = os.openpty()
    try:
        os.write(terminal, answer)
        done = subprocess.run(
            [TIDEGATE, "dead-letters", "replay", "--json"],
            stdin=terminals_other_end,
            capture_output=True,
            env=clean_environment(kafka_environment(topics)),
            timeout=60,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(terminals_other_end)
    assert f"Send 1 dead letters back to {topics.topic_prefix}posts?" in done.stderr.decode()
    assert done.returncode == 1 - sent
    assert len(_posts(topics, sent)) == sent


def test_no_broker_is_said_plainly(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("dead-letters", "count", "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing listens there" in done.stderr
    assert done.stdout == ""
