"""The role `aggregate` as a process on real brokers: totals equal a recount, whatever is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stream.aggregates.book import Book
from stream.aggregates.books import to_changelog
from stream.aggregates.facts import Of
from stream.aggregates.merge import Windows
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.kafka.offsets import OffsetRange, offset_ranges
from stream.kafka.scan import scan
from stream.outcomes import decode_metric
from stream.settings import KafkaSettings
from stream.topics import AGGREGATES, DECISIONS, LABELS, METRICS, Topic
from tests.conftest import clean_environment, kafka_environment, topics_on
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
        self._asker: Any = None
        self._ends: dict[tuple[str, int], OffsetRange] | None = None

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
            time.sleep(0.2)

    def lag(self) -> int:
        """Records of the inputs that are not committed."""
        from kafka import TopicPartition

        inputs = [
            (topic.full_name(self.kafka.topic_prefix), partition)
            for topic in (LABELS, DECISIONS)
            for partition in range(self.kafka.partitions)
        ]
        ends = offset_ranges(self.kafka, inputs) if self._ends is None else self._ends
        self._ends = ends
        return sum(
            ends[place].end - (self._consumer().committed(TopicPartition(*place)) or 0)
            for place in inputs
        )

    def metrics(self) -> int:
        """Records on `metrics`, roughly: the embedded broker says too few."""
        from kafka import TopicPartition

        place = TopicPartition(METRICS.full_name(self.kafka.topic_prefix), 0)
        end: int = self._consumer().end_offsets([place])[place]
        return end

    def fed(self) -> None:
        """There is more on the inputs than `lag` knows."""
        self._ends = None

    def _consumer(self) -> Any:
        # One for all questions: one for each is many connections, and slow.
        if self._asker is None:
            from kafka import KafkaConsumer

            self._asker = KafkaConsumer(
                **kafka_python_config(self.kafka),
                group_id=f"{self.kafka.group}-aggregate",
                enable_auto_commit=False,
            )
        return self._asker

    def close(self) -> None:
        for process in list(self.running):
            self.kill(process)
        if self._asker is not None:
            self._asker.close()


@pytest.fixture
def new_workers(tmp_path: Path) -> Iterator[Callable[[KafkaSettings], Workers]]:
    made: list[Workers] = []

    def make(kafka: KafkaSettings) -> Workers:
        made.append(Workers(kafka, tmp_path))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


@pytest.fixture
def workers(
    new_topics: Callable[..., KafkaSettings], new_workers: Callable[[KafkaSettings], Workers]
) -> Workers:
    return new_workers(new_topics(partitions=PARTITIONS))


def _write(kafka: KafkaSettings, topic: Topic, partition: int, values: list[bytes]) -> None:
    _send(kafka, topic, partition, [(None, value) for value in values])


def _send(
    kafka: KafkaSettings,
    topic: Topic,
    partition: int,
    records: Sequence[tuple[bytes | None, bytes | None]],
) -> None:
    from kafka import KafkaProducer

    name = topic.full_name(kafka.topic_prefix)
    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=5)
    for key, value in records:
        producer.send(name, key=key, value=value, partition=partition)
    producer.flush(30)
    producer.close()


def _decisions(seed: int, count: int, prefix: str) -> list[bytes]:
    chance = random.Random(seed)
    return [
        decision(
            f"{prefix}{chance.randrange(count // 3)}",
            place,
            chance.choice(["allow", "allow", "flag", "hide"]),
            at_s=chance.randrange(60),
            by=chance.choice(["policy", "policy", "review"]),
        )
        for place in range(count)
    ]


def _feed(workers: Workers, count: int, round_: int = 0) -> None:
    kafka = workers.kafka
    for partition in range(PARTITIONS):
        seed, prefix = partition + 10 * round_, f"{round_}/{partition}/"
        labels = random_labels(seed, count, posts=count // 3, spread_s=60, prefix=prefix)
        _write(kafka, LABELS, partition, labels)
        _write(kafka, DECISIONS, partition, _decisions(seed, count // 2, prefix))
    workers.fed()


def _recounted(kafka: KafkaSettings) -> Counts:
    """What the topics say, read from beginning to end."""
    inputs: tuple[tuple[Topic, Of], ...] = ((LABELS, "labels"), (DECISIONS, "decisions"))
    labels, decisions = (
        recount(
            (
                (record.offset, record.value or b"")
                for record in scan(kafka, topic.full_name(kafka.topic_prefix))
            ),
            of,
        )
        for topic, of in inputs
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


def test_killed_again_and_again_the_totals_equal_a_recount(
    workers: Workers, request: pytest.FixtureRequest
) -> None:
    _feed(workers, 1500)
    chance = random.Random(6)
    # Many on the broker that people run; the other keeps a killed member's place for seconds.
    for _ in range(5 if request.node.callspec.params["broker"] == "apache" else 2):
        process, before = workers.start(), workers.metrics()
        # In the middle of the next few checkpoints, wherever that is.
        wanted = before + chance.randrange(1, 400)
        workers.until(lambda wanted=wanted: workers.metrics() >= wanted or workers.lag() == 0)  # type: ignore[misc]
        workers.kill(process)
    workers.start()
    workers.until(lambda: workers.lag() == 0)
    assert counted(_read(workers.kafka)) == _recounted(workers.kafka)


def test_two_workers_share_and_a_rebalance_moves_the_windows(workers: Workers) -> None:
    _feed(workers, 600)
    first = workers.start("one")
    workers.until(lambda: workers.metrics() > 0)
    workers.start("two")
    workers.until(lambda: workers.log.count('"reading"') >= 2)
    _feed(workers, 600, round_=1)
    workers.until(lambda: workers.lag() == 0)
    assert workers.stop(first) == 0
    _feed(workers, 300, round_=2)
    workers.until(lambda: workers.lag() == 0)
    assert counted(_read(workers.kafka)) == _recounted(workers.kafka)


def test_an_orderly_stop_writes_what_is_counted(
    embedded_broker: EmbeddedBroker, new_workers: Callable[[KafkaSettings], Workers]
) -> None:
    kafka = topics_on(embedded_broker, partitions=PARTITIONS)
    workers = new_workers(kafka)
    _feed(workers, 300)
    first = workers.start()
    workers.until(lambda: workers.metrics() > 0)
    assert workers.stop(first) == 0
    _feed(workers, 300, round_=1)
    second = workers.start()
    workers.until(lambda: workers.lag() == 0)
    assert workers.stop(second) == 0
    assert counted(_read(kafka)) == _recounted(kafka)


def test_a_topic_that_was_made_again_is_noticed(
    embedded_broker: EmbeddedBroker, new_workers: Callable[[KafkaSettings], Workers]
) -> None:
    kafka = topics_on(embedded_broker, partitions=1)
    book = Book("labels", 0)
    book.add([(n, label(f"p{n}", n)) for n in range(50)])
    made = book.checkpoint()
    changes = [(change.key, to_changelog(change)) for change in (*made.cells, *made.markers)]
    _send(kafka, AGGREGATES, 0, changes)
    _write(kafka, LABELS, 0, [label("p", 1)])
    workers = new_workers(kafka)
    process = workers.start()
    assert process.wait(90) == 1, workers.log
    workers.running.remove(process)
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
