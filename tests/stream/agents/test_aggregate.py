"""The role `aggregate` as a process on real brokers: totals equal a recount, whatever is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.aggregates.merge import Windows
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.kafka.scan import scan
from stream.outcomes import decode_aggregate_change, decode_metric
from stream.settings import KafkaSettings
from stream.topics import AGGREGATES, DECISIONS, LABELS, METRICS, Topic
from tests.conftest import clean_environment, kafka_environment, kafka_settings
from tests.stream.aggregates.feed import (
    Counts,
    counted,
    decision,
    label,
    numbered,
    random_labels,
    recount,
)

PARTITIONS = 2
_PROCESS = """
import sys
from stream.cli.main import print_error
from stream.errors import TidegateError
from stream.roles import Duty
from stream.settings import load_settings
from stream.worker import run_worker
try:
    run_worker(load_settings(), duty=Duty("aggregate"))
except TidegateError as error:
    print_error(error)
    sys.exit(1)
"""


class Workers:
    """What `tidegate worker --role aggregate` runs, several of them, to be killed.

    Args:
        kafka: their broker, prefix and group.
        folder: where their log goes.
    """

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self.kafka = kafka
        self._env = clean_environment(kafka_environment(kafka)) | {
            "TIDEGATE_AGGREGATES__CHECKPOINT_S": "0.2",
            "TIDEGATE_AGGREGATES__CHECKPOINT_RECORDS": "150",
            "TIDEGATE_WORKER__COMMIT_INTERVAL_S": "0.3",
        }
        self._log = folder / "aggregate.log"
        self.running: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> str:
        return self._log.read_text()[-8000:]

    def start(self, instance: str = "one") -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROCESS],
                # A static member gets its partitions back at once, whatever became of it.
                env=self._env | {"TIDEGATE_WORKER__INSTANCE": instance},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.running.remove(process)

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.terminate()
        self.running.remove(process)
        return process.wait(60)

    def until(self, condition: Callable[[], bool], timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.log
            for process in self.running:
                assert process.poll() is None, self.log
            time.sleep(0.1)

    def lag(self) -> int:
        with open_admin(self.kafka) as admin:
            return admin.lag(f"{self.kafka.group}-aggregate", (LABELS, DECISIONS)).lag

    def metrics(self) -> int:
        topic = METRICS.full_name(self.kafka.topic_prefix)
        return sum(1 for _ in scan(self.kafka, topic))


@pytest.fixture
def workers(new_topics: Callable[..., KafkaSettings], tmp_path: Path) -> Iterator[Workers]:
    made = Workers(new_topics(partitions=PARTITIONS), tmp_path)
    yield made
    for process in list(made.running):
        made.kill(process)


def _write(kafka: KafkaSettings, topic: Topic, partition: int, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=5)
    for value in values:
        producer.send(topic.full_name(kafka.topic_prefix), value=value, partition=partition)
    producer.flush(30)
    producer.close()


def _decisions(seed: int, count: int, prefix: str) -> list[bytes]:
    chance = random.Random(seed)
    return [
        decision(
            f"{prefix}{chance.randrange(count // 3)}",
            place,
            chance.choice(["allow", "allow", "flag", "hide"]),
            at_s=chance.randrange(600),
            by=chance.choice(["policy", "policy", "review"]),
        )
        for place in range(count)
    ]


def _feed(kafka: KafkaSettings, count: int, round_: int = 0) -> None:
    for partition in range(PARTITIONS):
        seed, prefix = partition + 10 * round_, f"{round_}/{partition}/"
        labels = random_labels(seed, count, posts=count // 3, spread_s=600, prefix=prefix)
        _write(kafka, LABELS, partition, labels)
        _write(kafka, DECISIONS, partition, _decisions(seed, count // 2, prefix))


def _recounted(kafka: KafkaSettings) -> Counts:
    """What the topics say, read from beginning to end."""
    labels, decisions = (
        recount(
            (
                (record.offset, record.value or b"")
                for record in scan(kafka, topic.full_name(kafka.topic_prefix))
            ),
            of,
        )
        for topic, of in ((LABELS, "labels"), (DECISIONS, "decisions"))
    )
    nothing: tuple[Any, ...] = (0, 0, 0, 0, 0, 0, {})
    total: Counts = {}
    for key in {*labels, *decisions}:
        one, other = labels.get(key, nothing), decisions.get(key, nothing)
        total[key] = (*(one[i] + other[i] for i in range(6)), {**one[6], **other[6]})
    return total


def _read(kafka: KafkaSettings) -> Windows:
    windows = Windows()
    for record in scan(kafka, METRICS.full_name(kafka.topic_prefix)):
        windows.add(decode_metric(record.value or b""))
    return windows


def test_killed_again_and_again_the_totals_equal_a_recount(workers: Workers) -> None:
    _feed(workers.kafka, 1200)
    chance = random.Random(6)
    for _ in range(6):
        process, before = workers.start(), workers.metrics()
        # In the middle of the next few checkpoints, wherever that is.
        wanted = before + chance.randrange(1, 400)
        workers.until(lambda wanted=wanted: workers.metrics() >= wanted or workers.lag() == 0)  # type: ignore[misc]
        workers.kill(process)
    workers.start()
    workers.until(lambda: workers.lag() == 0)
    assert counted(_read(workers.kafka)) == _recounted(workers.kafka)


def test_two_workers_share_and_a_rebalance_moves_the_windows(workers: Workers) -> None:
    _feed(workers.kafka, 600)
    first = workers.start("one")
    workers.until(lambda: workers.metrics() > 0)
    workers.start("two")
    workers.until(lambda: workers.log.count('"reading"') >= 2)
    _feed(workers.kafka, 600, round_=1)
    workers.until(lambda: workers.lag() == 0)
    assert workers.stop(first) == 0
    _feed(workers.kafka, 300, round_=2)
    workers.until(lambda: workers.lag() == 0)
    assert counted(_read(workers.kafka)) == _recounted(workers.kafka)


def test_an_orderly_stop_writes_what_is_counted(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    kafka = kafka_settings(embedded_broker, partitions=PARTITIONS)
    with open_admin(kafka) as admin:
        admin.create_missing()
    workers = Workers(kafka, tmp_path)
    _feed(kafka, 300)
    first = workers.start()
    workers.until(lambda: workers.metrics() > 0)
    assert workers.stop(first) == 0
    _feed(kafka, 300, round_=1)
    second = workers.start()
    workers.until(lambda: workers.lag() == 0)
    assert workers.stop(second) == 0
    assert counted(_read(kafka)) == _recounted(kafka)


def test_a_topic_that_was_made_again_is_noticed(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    kafka = kafka_settings(embedded_broker, partitions=1)
    with open_admin(kafka) as admin:
        admin.create_missing()
    workers = Workers(kafka, tmp_path)
    _write(kafka, LABELS, 0, [label(f"p{n}", n) for n in range(50)])
    first = workers.start()
    workers.until(lambda: workers.lag() == 0)
    assert workers.stop(first) == 0
    other = kafka_settings(embedded_broker, partitions=1, topic_prefix=f"{kafka.topic_prefix}x.")
    with open_admin(other) as admin:
        admin.create_missing()
    changes = [
        (record.key, record.value)
        for record in scan(kafka, AGGREGATES.full_name(kafka.topic_prefix))
    ]
    assert all(decode_aggregate_change(value).body for _, value in changes if value is not None)
    from kafka import KafkaProducer

    producer = KafkaProducer(**kafka_python_config(other))
    for key, value in changes:
        producer.send(AGGREGATES.full_name(other.topic_prefix), key=key, value=value, partition=0)
    producer.flush(30)
    producer.close()
    _write(other, LABELS, 0, [label("p", 1)])
    workers = Workers(other, tmp_path)
    assert workers.start().wait(60) == 1
    assert "50 records were counted, and the topic ends at 1" in workers.log
    assert "hint: was it deleted and made again?" in workers.log


def test_totals_of_the_feed_are_a_recount_of_it() -> None:
    """The recount itself, on a feed that can be counted by hand."""
    values = [
        label("a", 1, sentiment="positive"),
        label("b", 2, toxicity="insult"),
        label("a", 3, at_s=30, op="update"),
        label("b", 4, op="delete"),
    ]
    found = recount(numbered(values))
    assert {(k.width_s, v[0], v[4]) for k, v in found.items() if k.by == "all"} == {
        (10, 1, 0),
        (60, 1, 0),
        (3600, 1, 0),
    }
