"""`tidegate replay`: what is on the topics afterwards, and what it says.

On both brokers where it depends on them: that everything arrives, and what they refuse.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from kafka import KafkaConsumer, TopicPartition

from stream.kafka.client import kafka_python_config
from stream.kafka.offsets import offset_ranges
from stream.post_decoding import decode_post
from stream.records import MAX_ORIGINAL_BYTES, decode_dead_letter
from stream.settings import KafkaSettings
from stream.sources.lines import MAX_LINE_BYTES
from tests.conftest import (
    Broker,
    RunTidegate,
    StartTidegate,
    kafka_environment,
    kafka_settings,
)
from tests.stream.sources.bad_lines import BAD_KINDS, MEGABYTE, good_lines, mixed_file


def records(kafka: KafkaSettings, name: str) -> Iterator[Any]:
    """Everything in a topic, partition by partition."""
    topic = f"{kafka.topic_prefix}{name}"
    partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
    consumer = KafkaConsumer(
        **kafka_python_config(kafka), auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        consumer.assign(partitions)
        ends = offset_ranges(kafka, partitions)
        while any(consumer.position(p) < ends[p].end for p in partitions):
            for found in consumer.poll(timeout_ms=200).values():
                yield from found
    finally:
        consumer.close()


def account(stdout: str) -> dict[str, Any]:
    (line,) = stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_every_line_is_on_the_broker(
    topics: KafkaSettings, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    content = mixed_file(1000) + MEGABYTE + b"\n"
    (tmp_path / "mixed.jsonl.gz").write_bytes(gzip.compress(content))

    done = run_tidegate("replay", "mixed.jsonl.gz", "--json", env=kafka_environment(topics))

    assert done.returncode == 0, done.stderr
    found = account(done.stdout)
    assert found.pop("seconds") > 0
    assert found == {
        "lines": 1000 + len(BAD_KINDS) + 1,
        "posts": 1000,
        "bad": len(BAD_KINDS) + 1,
        "blank": 3,
        "dead_lettered": 1,
        "rounds": 1,
        "interrupted": False,
    }
    posted = list(records(topics, "posts"))
    assert len(posted) == 1000 + len(BAD_KINDS)
    bad = [record for record in posted if record.headers]
    assert sorted(record.value for record in bad) == sorted(kind.value for kind in BAD_KINDS)
    lines = content.split(b"\n")
    for record in bad:
        ((name, where),) = record.headers
        assert name == "tidegate-input"
        file, _, number = where.decode().rpartition(":")
        assert file == "mixed.jsonl.gz"
        assert lines[int(number) - 1] == record.value
    good = {decode_post(record.value).id for record in posted if not record.headers}
    assert good == {f"good-{n}" for n in range(1000)}
    (letter,) = [decode_dead_letter(record.value) for record in records(topics, "dead-letters")]
    assert (letter.reason, letter.post_id) == ("too-large", "big")
    assert letter.original_truncated
    assert len(letter.original) == MAX_ORIGINAL_BYTES < 1_000_000 < letter.original_bytes
    assert letter.input == f"mixed.jsonl.gz:{len(lines) - 1}"


def test_an_authors_posts_stay_in_order(
    embedded_topics: KafkaSettings, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    (tmp_path / "feed.jsonl").write_bytes(b"\n".join(good_lines(20_000)))

    run_tidegate("replay", "feed.jsonl", env=kafka_environment(embedded_topics))

    last: dict[bytes, int] = {}
    places: dict[bytes, int] = {}
    seen = 0
    for record in records(embedded_topics, "posts"):
        number = int(decode_post(record.value).id.removeprefix("good-"))
        assert number > last.get(record.key, -1)
        last[record.key] = number
        # Kafka's own way, so that other producers put an author where we do.
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % embedded_topics.partitions
        assert places.setdefault(record.key, record.partition) == record.partition
        seen += 1
    assert seen == 20_000
    assert len(last) == 37
    assert len(set(places.values())) == embedded_topics.partitions


def test_stdin_and_ids_from_lines(
    embedded_topics: KafkaSettings, run_tidegate: RunTidegate
) -> None:
    done = run_tidegate(
        "replay", "-", "--text", env=kafka_environment(embedded_topics), stdin="one\n\ntwo\n"
    )

    assert done.returncode == 0
    assert "2 posts sent" in done.stderr
    assert "1 blank lines skipped" in done.stderr
    assert done.stdout == ""
    posts = [decode_post(record.value) for record in records(embedded_topics, "posts")]
    assert {(post.id, post.text) for post in posts} == {("stdin:1", "one"), ("stdin:3", "two")}


def test_a_row_keeps_its_own_reason(
    embedded_topics: KafkaSettings, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    """A worker would call a row of a CSV "not JSON": what is wrong with it is known here."""
    rows = b'id,text\n1,fine\n2\n"3,{"id":"x","text":"y"}\n4,caf\xe9\n'
    (tmp_path / "a.csv").write_bytes(rows)

    done = run_tidegate("replay", "a.csv", "--json", env=kafka_environment(embedded_topics))

    found = account(done.stdout)
    assert (found["posts"], found["bad"], found["dead_lettered"]) == (1, 3, 2)
    letters = {
        letter.input: letter
        for record in records(embedded_topics, "dead-letters")
        for letter in [decode_dead_letter(record.value)]
    }
    assert letters["a.csv:3"].error == "the row has 1 cell, the header 2"
    assert letters["a.csv:3"].original == b"2"
    assert letters["a.csv:4"].reason == "bad-row"


def test_a_line_that_was_cut_says_so(
    embedded_topics: KafkaSettings, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id":"a","text":"' + b"x" * (MAX_LINE_BYTES + 10) + b'"}')

    done = run_tidegate("replay", "a.jsonl", "--json", env=kafka_environment(embedded_topics))

    assert account(done.stdout)["dead_lettered"] == 1
    (letter,) = [
        decode_dead_letter(record.value) for record in records(embedded_topics, "dead-letters")
    ]
    assert letter.reason == "too-large"
    assert letter.original_truncated
    assert letter.original_bytes >= MAX_LINE_BYTES


def test_a_loop_makes_new_posts_until_it_is_ended(
    embedded_topics: KafkaSettings, start_tidegate: StartTidegate, tmp_path: Path
) -> None:
    (tmp_path / "feed.jsonl").write_bytes(b"\n".join(good_lines(10)))
    process = start_tidegate(
        "replay",
        "feed.jsonl",
        "--loop",
        "--rate",
        "50",
        "--json",
        env=kafka_environment(embedded_topics),
    )
    deadline = time.monotonic() + 60
    while sum(1 for _ in records(embedded_topics, "posts")) < 25:
        assert time.monotonic() < deadline
        assert process.poll() is None

    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    found = account(stdout)
    ids = [decode_post(record.value).id for record in records(embedded_topics, "posts")]
    assert found["interrupted"]
    assert found["posts"] == len(ids) == len(set(ids))
    assert {"good-0", "good-0#2", "good-9#2", "good-0#3"} <= set(ids)
    assert found["rounds"] >= 3


def test_ctrl_c_sends_what_it_has_begun(
    embedded_topics: KafkaSettings, start_tidegate: StartTidegate, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = start_tidegate("replay", "pipe", "--json", env=kafka_environment(embedded_topics))
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(b"\n".join(good_lines(100)) + b"\n")
        pipe.flush()
        deadline = time.monotonic() + 60
        while sum(1 for _ in records(embedded_topics, "posts")) < 100:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=120)

    assert process.returncode == 130
    assert account(stdout)["posts"] == 100


def test_a_broken_file_is_sent_as_far_as_it_goes(
    embedded_topics: KafkaSettings, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    packed = gzip.compress(b"\n".join(good_lines(20_000)), 1)
    (tmp_path / "feed.jsonl.gz").write_bytes(packed[: len(packed) // 2])

    done = run_tidegate("replay", "feed.jsonl.gz", "--json", env=kafka_environment(embedded_topics))

    assert done.returncode == 1
    assert "the gzip data ends in the middle" in done.stderr
    assert account(done.stdout)["posts"] == sum(1 for _ in records(embedded_topics, "posts")) > 5000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.jsonl",), 1, "missing.jsonl: cannot be opened: no such file or directory"),
        (("-", "--loop"), 2, "standard input cannot be read in a loop"),
        (("missing.jsonl", "--kafka", "127.0.0.1:1"), 1, "missing.jsonl: cannot be opened"),
        (("-", "--kafka", "127.0.0.1:1"), 1, "127.0.0.1:1: nothing listens there"),
        (("x", "--rate", "0"), 2, "rate"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    embedded_topics: KafkaSettings,
    run_tidegate: RunTidegate,
) -> None:
    done = run_tidegate("replay", *arguments, env=kafka_environment(embedded_topics))

    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_topics_are_made_or_named(
    broker: Broker, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    kafka = kafka_settings(broker)
    (tmp_path / "feed.jsonl").write_bytes(good_lines(1)[0])
    env = kafka_environment(kafka)

    refused = run_tidegate("replay", "feed.jsonl", "--no-topic-create", env=env)
    made = run_tidegate("replay", "feed.jsonl", env=env)

    assert refused.returncode == 1
    assert f"the broker has no topic `{kafka.topic_prefix}posts`" in refused.stderr
    assert "tidegate topics create" in refused.stderr
    assert made.returncode == 0


def test_a_topic_that_takes_less_than_usual(
    new_small_topics: Callable[[], KafkaSettings],
    run_tidegate: RunTidegate,
    tmp_path: Path,
) -> None:
    """What the broker refuses is a dead letter, and the rest of its batch is sent."""
    kafka = new_small_topics()
    lines = [*good_lines(50), b'{"id":"big","text":"%s"}' % (b"x" * 20_000), *good_lines(50)]
    (tmp_path / "feed.jsonl").write_bytes(b"\n".join(lines))

    done = run_tidegate("replay", "feed.jsonl", "--json", env=kafka_environment(kafka))

    assert done.returncode == 0, done.stderr
    found = account(done.stdout)
    assert (found["posts"], found["bad"], found["dead_lettered"]) == (100, 1, 1)
    assert sum(1 for _ in records(kafka, "posts")) == 100
    (letter,) = [decode_dead_letter(record.value) for record in records(kafka, "dead-letters")]
    assert letter.reason == "too-large"


@pytest.fixture
def new_small_topics(apache_kafka: Broker) -> Callable[[], KafkaSettings]:
    """The catalogue's topics, `posts` with a `max.message.bytes` of 10,000."""
    from kafka import KafkaAdminClient

    from stream.kafka.admin import open_admin

    def create() -> KafkaSettings:
        kafka = kafka_settings(apache_kafka)
        client = KafkaAdminClient(**kafka_python_config(kafka))
        try:
            client.create_topics(
                {
                    f"{kafka.topic_prefix}posts": {
                        "num_partitions": kafka.partitions,
                        "replication_factor": 1,
                        "configs": {"max.message.bytes": "10000"},
                    }
                }
            )
        finally:
            client.close()
        with open_admin(kafka) as admin:
            admin.create_missing()
        return kafka

    return create
