"""`tidegate demo` as a user runs it: the embedded broker, a worker, the page, and what kills them."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition

from stream.kafka.client import kafka_python_config
from stream.kafka.offsets import offset_ranges
from stream.records import decode_dead_letter, decode_label
from stream.settings import KafkaSettings
from tests.cli.demos import NULL, ONCE, StartDemo
from tests.conftest import (
    Broker,
    RunTidegate,
    clean_environment,
    kafka_environment,
    topics_on,
)
from tests.stream.sources.bad_lines import BAD_KINDS, MEGABYTE, ODD_BUT_GOOD, good_lines, mixed_file


def test_the_whole_way_with_the_real_model(start_demo: StartDemo, tmp_path: Path) -> None:
    """Every kind of bad line among the good ones: all accounted for, exit code 0.

    And abuse among them: decided by the starter pack, delivered, every signature verified.
    """
    abuse = [
        msgspec.json.encode({"id": f"p{n}", "author": f"a{n}", "text": text})
        for n, text in enumerate(
            f"You worthless idiot, nobody wants you here, go away. {number}" for number in range(12)
        )
    ]
    content = mixed_file(300) + b"\n".join([*abuse, MEGABYTE, *ODD_BUT_GOOD])
    (tmp_path / "mixed.jsonl.gz").write_bytes(gzip.compress(content))

    demo = start_demo(
        "--posts", "mixed.jsonl.gz", *ONCE, env={"TIDEGATE_MODELS__PRESET": "compact"}
    )
    demo.wait_for(lambda: demo.find("worker", "label"))
    code, result = demo.finish(170)

    assert code == 0, demo.errors
    good = 300 + len(abuse) + len(ODD_BUT_GOOD)
    # The line of 1 MB is more than a broker takes: a dead letter, where `label` would cut it.
    assert result["posts_in"] == good + len(BAD_KINDS) + 1
    assert (result["labelled"], result["dead_lettered"]) == (good, len(BAD_KINDS) + 1)
    assert (result["blank"], result["duplicates"], result["worker_restarts"]) == (3, 0, 0)
    assert set(result["models"]) == {"language", "sentiment", "toxicity"}
    assert result["models"]["sentiment"]["id"] == "tidegate/compact"
    assert result["broker"]["kind"] == "embedded"
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p95"]
    assert result["latency_ms"]["p95"] <= result["latency_ms"]["p99"]
    assert result["posts_per_s"] > 0
    hook = result["hook"]
    assert sum(hook["actions"].values()) == hook["decisions"]
    # Each abuse, and what the deleted post takes back; of the calm posts nothing.
    assert (hook["decisions"], hook["actions"]["allow"]) == (len(abuse) + 1, 1)
    assert hook["refused"] == 0
    assert "decision " in demo.errors
    demo.gone()
    assert list((tmp_path / "tmp").glob("tidegate-demo-*")) == []


def test_neither_a_dead_page_nor_a_dead_worker_loses_a_post(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    lines = b"".join(line + b"\n" for line in good_lines(4_000))
    os.mkfifo(tmp_path / "feed.jsonl")
    demo = start_demo("--posts", "feed.jsonl", *ONCE)
    with (tmp_path / "feed.jsonl").open("wb") as pipe:  # the feed ends when we close it
        demo.wait_for(lambda: "page " in demo.errors)
        demo.wait_for(lambda: demo.find("dashboard")).kill()
        demo.wait_for(lambda: "the demo goes on without it" in demo.errors)
        pipe.write(lines[: len(lines) // 2])
        demo.wait_for(lambda: demo.find("worker", "label")).kill()
        pipe.write(lines[len(lines) // 2 :])
    code, result = demo.finish()

    assert code == 0, demo.errors
    assert (result["posts_in"], result["labelled"]) == (4_000, 4_000)
    assert result["worker_restarts"] == 1
    assert "ended with code 137; its last lines:" in demo.errors
    assert "started again" in demo.errors
    demo.gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(
    number: signal.Signals, start_demo: StartDemo, tmp_path: Path
) -> None:
    demo = start_demo("--no-browser", "--json", "--port", "0")
    demo.wait_for(lambda: "page " in demo.errors)
    assert {"worker", "dashboard"} <= {
        word for process in demo.family() for word in process.cmdline()
    }

    demo.process.send_signal(number)
    code, result = demo.finish()

    assert code == 0, demo.errors
    assert result["interrupted"]
    assert result["posts_in"] >= result["labelled"] > 0
    demo.gone()
    assert list((tmp_path / "tmp").glob("tidegate-demo-*")) == []


def test_ctrl_c_in_the_middle_of_a_file_is_no_success(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    (tmp_path / "feed.jsonl").write_bytes(b"\n".join(good_lines(1000)))
    demo = start_demo("--posts", "feed.jsonl", "--rate", "20", *ONCE)
    demo.wait_for(lambda: "feed " in demo.errors)

    demo.process.send_signal(signal.SIGINT)
    code, result = demo.finish()

    assert code == 130
    assert result["posts_in"] < 1000
    demo.gone()


def test_kill_9_of_the_demo_leaves_no_process(start_demo: StartDemo) -> None:
    demo = start_demo("--no-browser", "--port", "0")
    demo.wait_for(lambda: "page " in demo.errors)
    assert len(demo.family()) >= 6

    demo.process.kill()

    demo.gone()


def test_kill_9_while_everything_starts_leaves_no_process(start_demo: StartDemo) -> None:
    demo = start_demo("--no-browser", "--port", "0")
    demo.wait_for(lambda: demo.find("worker", "label"))

    demo.process.kill()

    demo.gone()


def test_a_dead_broker_is_named(start_demo: StartDemo) -> None:
    demo = start_demo("--no-browser", "--port", "0")
    demo.wait_for(lambda: "feed " in demo.errors)
    broker = demo.wait_for(lambda: demo.find("broker"))

    broker.kill()
    code, _ = demo.finish()

    assert code == 1
    assert "the embedded broker has ended" in demo.errors
    assert "Traceback" not in demo.errors
    demo.gone()


def test_a_worker_that_cannot_start_says_why(start_demo: StartDemo, tmp_path: Path) -> None:
    demo = start_demo(*ONCE, env={"TIDEGATE_MODELS__PRESET": "no-such-preset"})
    code, _ = demo.finish()

    assert code == 1
    assert "no-such-preset" in demo.errors
    (folder,) = (tmp_path / "tmp").glob("tidegate-demo-*")
    assert f"{folder}/worker.log: the worker ends with code 1" in demo.errors
    assert (folder / "worker.log").stat().st_size
    demo.gone()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--posts", "missing.jsonl"), "missing.jsonl: cannot be opened"),
        (("--kafka", "127.0.0.1:1"), "127.0.0.1:1: nothing listens there"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    arguments: tuple[str, ...], message: str, run_tidegate: RunTidegate
) -> None:
    done = run_tidegate("demo", *arguments, *ONCE, env=NULL)

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_breaks_off_is_labelled_as_far_as_it_goes(
    start_demo: StartDemo, tmp_path: Path
) -> None:
    packed = gzip.compress(b"\n".join(good_lines(5000)), 1)
    (tmp_path / "feed.jsonl.gz").write_bytes(packed[: len(packed) // 2])

    demo = start_demo("--posts", "feed.jsonl.gz", *ONCE)
    code, _ = demo.finish()

    assert code == 1
    assert "the gzip data ends in the middle" in demo.errors
    assert "posts that could be read" in demo.errors
    demo.gone()


def test_nothing_to_feed_is_no_failure(start_demo: StartDemo, tmp_path: Path) -> None:
    (tmp_path / "feed.jsonl").write_bytes(b"\n\n \n")

    code, result = start_demo("--posts", "feed.jsonl", *ONCE).finish()

    assert code == 0
    assert result["posts_in"] == result["labelled"] == 0
    assert result["latency_ms"] is None


@pytest.mark.kafka
def test_a_broker_of_the_users_keeps_the_records(
    apache_kafka: Broker, start_demo: StartDemo, tmp_path: Path
) -> None:
    """Only what this run posted is counted, and every line is on the broker, with its place."""
    topics = topics_on(apache_kafka)
    (tmp_path / "feed.jsonl").write_bytes(mixed_file(100))
    env = kafka_environment(topics)
    demo = start_demo("--posts", "feed.jsonl", "--kafka", topics.bootstrap, *ONCE, env=env)
    first_code, first = demo.finish()
    second_code, second = start_demo(
        "--posts", "feed.jsonl", "--kafka", topics.bootstrap, *ONCE, env=env
    ).finish()

    assert (first_code, second_code) == (0, 0), demo.errors
    assert first["broker"] == {"kind": "given", "bootstrap": topics.bootstrap}
    for result in (first, second):
        assert (result["labelled"], result["dead_lettered"]) == (100, len(BAD_KINDS))
    labels = [decode_label(value) for value in values(topics, "labels")]
    letters = [decode_dead_letter(value) for value in values(topics, "dead-letters")]
    assert len(labels) == 200
    assert len({label.post_id for label in labels}) == 100
    assert sorted(letter.error for letter in letters) == sorted(
        kind.message for kind in BAD_KINDS for _ in range(2)
    )
    assert {(letter.input or "").rpartition(":")[0] for letter in letters} == {"feed.jsonl"}
    originals = {(kind.message, kind.value) for kind in BAD_KINDS}
    for letter in letters:
        assert (letter.error, letter.original) in originals or letter.original_truncated


def values(kafka: KafkaSettings, name: str) -> list[bytes]:
    topic = f"{kafka.topic_prefix}{name}"
    partitions = [TopicPartition(topic, number) for number in range(kafka.partitions)]
    consumer = KafkaConsumer(**kafka_python_config(kafka), auto_offset_reset="earliest")
    try:
        consumer.assign(partitions)
        ends = offset_ranges(kafka, partitions)
        found: list[bytes] = []
        while any(consumer.position(p) < ends[p].end for p in partitions):
            for records in consumer.poll(timeout_ms=200).values():
                found.extend(record.value for record in records)
        return found
    finally:
        consumer.close()


def test_without_the_dashboard_extra_it_goes_on(tmp_path: Path) -> None:
    """The packages are hidden from the demo's own process: what it finds is what it says."""
    (tmp_path / "feed.jsonl").write_bytes(b"\n".join(good_lines(20)))
    script = (
        "import importlib.util as u, sys\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'streamlit' else found(name, *a)\n"
        "from stream.cli.main import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "demo", "--posts", "feed.jsonl", "--rate", "20", *ONCE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=clean_environment(NULL),
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["labelled"] == 20
    assert "pip install 'tidegate[dashboard]'" in done.stderr


def test_the_shipped_feed_is_what_it_says() -> None:
    from stream.demo.feed import shipped_source
    from stream.sources.files import PostLine

    lines = list(shipped_source())

    posts = [line.post for line in lines if isinstance(line, PostLine)]
    assert len(posts) == len(lines)
    assert 400 <= len(posts) <= 600
    assert len({post.id for post in posts}) == len(posts)
    assert len({post.langs[0] for post in posts}) >= 15
    offsets = [post.meta["offset_s"] for post in posts]
    assert offsets == sorted(offsets)
    tagged = [n for n, post in enumerate(posts) if "halden" in post.tags]
    assert len(tagged) > 100
    before, during, after = (
        posts[: tagged[0]],
        posts[tagged[0] : tagged[-1]],
        posts[tagged[-1] + 1 :],
    )
    assert len(before) > 80
    assert len(after) > 80
    span = offsets[tagged[-1]] - offsets[tagged[0]]
    assert len(during) / span > 2 * len(before) / offsets[tagged[0]]
