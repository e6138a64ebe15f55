from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from dashboard.process import Command, projector_command, stop
from dashboard.reader import Reader, open_reader
from dashboard.store import Store
from stream.database_url import ReadModelAt
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.records import DEAD_LETTER_SCHEMA, DeadLetter, Origin, encode
from stream.settings import DashboardSettings, KafkaSettings, Settings
from stream.topics import LABELS, POSTS
from tests.dashboard.conftest import NewPlace
from tests.dashboard.label_feed import Made, stream_of
from tests.dashboard.test_store import contents, recount

#: Recent: the projector drops fine rollups that are older than a day.
START_MS = (int(time.time()) - 600) * 1000
NewTopics = Callable[..., KafkaSettings]


def send(
    kafka: KafkaSettings, made: list[Made], extra: list[tuple[str, bytes]] | None = None
) -> None:
    """Produce label records, and (topic, value) pairs to partition 0."""
    with closing(KafkaProducer(**kafka_python_config(kafka), linger_ms=20)) as producer:
        for record in made:
            producer.send(
                LABELS.full_name(kafka.topic_prefix), record.value, partition=record.partition
            )
        for topic, value in extra or []:
            producer.send(f"{kafka.topic_prefix}{topic}", value, partition=0)
        producer.flush()


def settings_for(kafka: KafkaSettings, path: ReadModelAt) -> Settings:
    dashboard = DashboardSettings.model_validate({"database": path})
    return Settings(kafka=kafka, dashboard=dashboard)


@contextmanager
def projecting(kafka: KafkaSettings, path: ReadModelAt) -> Iterator[subprocess.Popen[bytes]]:
    """A projector, in a process as always; it must end in order."""
    process = projector_command(settings_for(kafka, path)).start()
    try:
        yield process
    finally:
        stop(process, 30)
    assert process.returncode == 0


def until(question: Callable[[Reader], Any], path: ReadModelAt, timeout_s: float = 60) -> Any:
    """The first true answer of the read model."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with open_reader(path) as reader:
            if reader is not None and (answer := question(reader)):
                return answer
        time.sleep(0.1)
    pytest.fail("the read model never came to say so")


def dead_letter(offset: int) -> bytes:
    return encode(
        DeadLetter(
            schema=DEAD_LETTER_SCHEMA,
            dead_letter_id=f"posts/0/{offset}",
            reason="not-json",
            error="not JSON: unexpected end",
            original=b"{",
            original_bytes=1,
            at="2026-11-22T10:00:00.000Z",
            origin=Origin(topic="posts", partition=0, offset=offset, timestamp_ms=START_MS),
        )
    )


def test_labels_dead_letters_and_rubbish_become_a_read_model(
    topics: KafkaSettings, tmp_path: Path
) -> None:
    path = tmp_path / "m.db"
    made = list(stream_of(800, start_ms=START_MS))
    rubbish = [("labels", b"not json"), ("labels", b'{"schema":"tidegate.label.v9"}')]
    letters = [("dead-letters", dead_letter(7)), ("dead-letters", b"\xff")]
    with projecting(topics, path):
        send(topics, made, rubbish + letters)
        until(lambda r: r.size()[0] == 800 and r.dead_letter_reasons() == [("not-json", 1)], path)
        counters = until(lambda r: r.counters(), path)
        until(lambda r: r.status()["projector"].state == "reading", path)
    assert counters["unreadable_labels"] == 2
    assert counters["unreadable_dead_letters"] == 1
    assert {k: v for k, v in contents(path).items() if k in recount(path)} == recount(path)


def test_it_goes_on_from_the_offsets_in_the_file(topics: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    made = list(stream_of(600, start_ms=START_MS))
    with projecting(topics, path):
        send(topics, made[:300])
        until(lambda r: r.size()[0] == 300, path)
    send(topics, made[300:])
    with projecting(topics, path):
        until(lambda r: r.size()[0] == 600, path)
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.counters()["labels"] == 600  # nothing was read again
        assert reader.status()["projector"].state == "stopped"


@pytest.mark.timeout(300)
def test_kill_9_leaves_no_gap_and_counts_nothing_twice(
    topics: KafkaSettings, tmp_path: Path
) -> None:
    killed_and_whole(topics, tmp_path / "m.db", 24_000, (500, 3_000, 7_000, 12_000, 18_000))


@pytest.mark.timeout(300)
def test_kill_9_leaves_no_gap_and_counts_nothing_twice_in_postgres(
    embedded_topics: KafkaSettings, new_schema: NewPlace
) -> None:
    killed_and_whole(embedded_topics, new_schema(), 12_000, (500, 3_000, 8_000))


def killed_and_whole(
    kafka: KafkaSettings, place: ReadModelAt, count: int, kill_at: tuple[int, ...]
) -> None:
    """A projector killed when so many posts are there, again and again, then left alone."""
    made = list(stream_of(count, start_ms=START_MS, posts_per_s=500))
    send(kafka, [*made, *random.Random(1).sample(made, 500)])
    command = projector_command(settings_for(kafka, place))
    rng = random.Random(2)
    kills = 0

    def posts() -> int:
        with open_reader(place) as reader:
            return 0 if reader is None else reader.size()[0]

    for at in kill_at:
        process = command.start()
        deadline = time.monotonic() + 60
        while posts() < at and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))  # any moment: what is asserted holds wherever it falls
        kills += posts() < len(made)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = command.start()
    try:
        until(lambda r: r.counters().get("labels") == len(made) + 500, place)
        # What one before it said of itself does not count.
        own = {"pid": process.pid, "behind": 0}
        until(lambda r: own.items() <= r.status()["projector"].detail.items(), place)
    finally:
        stop(process)
    assert process.returncode == 0
    assert kills >= len(kill_at) // 2, "it was never killed in the middle of the work"
    assert len(contents(place)["posts"]) == len(made)
    assert {k: v for k, v in contents(place).items() if k in recount(place)} == recount(place)
    with Store(place) as store:
        offsets = store.offsets(LABELS.full_name(kafka.topic_prefix))
    assert sum(offsets.values()) == len(made) + 500


def test_backlog_is_what_waits_on_the_topic(new_topics: NewTopics, tmp_path: Path) -> None:
    kafka = new_topics(partitions=2)
    path = tmp_path / "m.db"
    with projecting(kafka, path):
        send(kafka, [], [(POSTS.name, b"{}")] * 37)
        until(lambda r: [row["waiting"] for row in r.backlog()] == [37, 0], path)
        history = until(lambda r: r.backlog_history(0), path)
    assert history[-1][1] == 37


def test_a_topic_made_anew_is_read_from_its_beginning_and_said(tmp_path: Path) -> None:
    """The embedded broker holds nothing over a restart: its topics come back as other topics."""
    path = tmp_path / "m.db"
    first, second = (
        list(stream_of(60, start_ms=START_MS)),
        list(stream_of(25, start_ms=START_MS + 100_000, first=1000)),
    )
    with EmbeddedBroker() as broker:
        port = int(broker.bootstrap.rpartition(":")[2])
        kafka = KafkaSettings.model_validate({"bootstrap": broker.bootstrap})
        with open_admin(kafka) as admin:
            admin.create_missing()
        send(kafka, first)
        with projecting(kafka, path):
            until(lambda r: r.size()[0] == 60, path)
    with EmbeddedBroker(port=port):
        with open_admin(kafka) as admin:
            admin.create_missing()
        send(kafka, second)
        with projecting(kafka, path):
            until(lambda r: r.size()[0] == 85, path)
            notices = until(lambda r: r.notices(20), path)
    assert "`labels` was deleted and made anew" in {row["message"].split(":")[0] for row in notices}


def test_a_broker_that_goes_away_is_said_and_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with EmbeddedBroker() as broker:
        port = int(broker.bootstrap.rpartition(":")[2])
        kafka = KafkaSettings.model_validate({"bootstrap": broker.bootstrap})
    with projecting(kafka, path):
        away = until(lambda r: r.status().get("broker"), path)
        assert away.state == "away"
        until(lambda r: r.status()["projector"].state == "broker-away", path)
        with EmbeddedBroker(port=port):
            until(lambda r: r.status()["projector"].state == "waiting-for-topics", path)
            with open_admin(kafka) as admin:
                admin.create_missing()
            send(kafka, list(stream_of(20, start_ms=START_MS)))
            until(lambda r: r.size()[0] == 20, path)


def test_a_broker_that_takes_requests_and_answers_none_is_said(tmp_path: Path) -> None:
    """No error comes of it for the half minute that a request may take."""
    path = tmp_path / "m.db"
    with EmbeddedBroker() as broker:
        kafka = KafkaSettings.model_validate({"bootstrap": broker.bootstrap})
        with open_admin(kafka) as admin:
            admin.create_missing()
        with projecting(kafka, path):
            until(lambda r: r.status()["projector"].state == "reading", path)
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                away = until(
                    lambda r: (p := r.status()["projector"]).state == "broker-away" and p, path
                )
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert re.fullmatch(r"no answer for \d+ s", away.detail["error"])
            until(lambda r: r.status()["projector"].state == "reading", path)


def test_sigterm_ends_it_cleanly_and_its_parents_death_too(
    topics: KafkaSettings, tmp_path: Path
) -> None:
    path = tmp_path / "m.db"
    command = projector_command(settings_for(topics, path))
    process = command.start()
    until(lambda r: r.status().get("projector"), path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.status()["projector"].state == "stopped"

    parent = _parent_of(command)
    until(lambda r: r.status()["projector"].state != "stopped", path)
    with open_reader(path) as reader:
        assert reader is not None
        pid = reader.status()["projector"].detail["pid"]
    parent.kill()
    parent.wait()
    until(lambda r: r.status()["projector"].state == "stopped", path)
    assert pid != os.getpid()


def _parent_of(command: Command) -> subprocess.Popen[bytes]:
    script = "import subprocess, sys; subprocess.call(sys.argv[1:])"
    return subprocess.Popen([sys.executable, "-c", script, *command.argv], env=dict(command.env))


def test_a_second_projector_is_refused_with_a_reason(topics: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    command = projector_command(settings_for(topics, path))
    with Store(path):
        done = subprocess.run(
            command.argv,
            env=dict(command.env),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert "another projector writes this read model" in done.stderr
    assert sqlite3.connect(path).execute("SELECT count(*) FROM posts").fetchone() == (0,)
