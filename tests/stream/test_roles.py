"""The roles of a worker: what they are, and that their processes live and die together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stream.errors import BrokerError, ConfigError
from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from stream.readiness import output_limits
from stream.roles import Duty, available, duties_of, group_of, role_named
from stream.settings import ENV_PREFIX, KafkaSettings, Settings, load_settings
from stream.topics import LABELS, POSTS
from tests.conftest import (
    TIDEGATE,
    RunTidegate,
    clean_environment,
    kafka_environment,
    kafka_settings,
    topics_on,
)
from tests.processes import kill

PLENTY_S = 60


def test_every_role_is_what_its_module_says() -> None:
    assert {"label", "decide"} <= set(available())
    groups = set()
    for name in available():
        role = role_named(name)
        assert role.name == name
        assert role.reads
        groups.add(group_of(Settings(), Duty(name, "x" if name == "hooks" else "")))
    assert len(groups) == len(available()), "a consumer group each"
    assert group_of(Settings(), Duty("label")) == Settings().kafka.group


def test_roles_are_chosen_by_name() -> None:
    duties, _ = duties_of(load_settings({}, {}), ["decide", "label", "decide"])
    assert duties == [Duty("decide"), Duty("label")]
    with pytest.raises(ConfigError, match="there is no role `labels`"):
        duties_of(load_settings({}, {}), ["labels"])


def test_topics_that_are_read_together_have_as_many_partitions(
    embedded_broker: EmbeddedBroker,
) -> None:
    kafka = topics_on(embedded_broker, partitions=2)
    for name in available():
        role = role_named(name)
        output_limits(kafka, role.reads, role.writes)
    other = kafka_settings(embedded_broker, partitions=3, topic_prefix=f"{kafka.topic_prefix}x.")
    with open_admin(other) as admin:
        admin.create_missing((POSTS,))
    with open_admin(other.model_copy(update={"partitions": 2})) as admin:
        admin.create_missing((LABELS,))
    with pytest.raises(BrokerError, match=r"has 3 partitions, .*only 2"):
        output_limits(other, (POSTS,), (LABELS,))


# -- processes


@pytest.fixture
def kafka(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    return topics_on(embedded_broker, partitions=1)


class Worker:
    """`tidegate worker` with two roles, and its children: the roles, and what scores for one."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self.log = folder / "worker.log"
        environment = clean_environment(kafka_environment(kafka))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [TIDEGATE, "worker", "--role", "label", "--role", "decide", "--preset", "null"],
                env=environment | {f"{ENV_PREFIX}WORKER__SCORING": "process"},
                cwd=folder,
                stderr=log,
                stdout=subprocess.DEVNULL,
            )
        self.children: list[psutil.Process] = []

    def wait_until_reading(self) -> None:
        deadline = time.monotonic() + PLENTY_S
        while len(re.findall('"event": "reading"', self.log.read_text())) < 2:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.children) == 3

    def gone(self) -> bool:
        return not psutil.wait_procs(self.children, timeout=PLENTY_S)[1]


@pytest.fixture
def worker(kafka: KafkaSettings, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(kafka, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()
    kill(made.children)


def test_a_signal_stops_every_role_in_good_order(worker: Worker) -> None:
    worker.wait_until_reading()
    worker.process.terminate()
    assert worker.process.wait(PLENTY_S) == 0
    assert worker.gone()
    assert len(re.findall('"event": "stopped"', worker.log.read_text())) == 3


def test_the_end_of_one_role_ends_the_worker_with_its_error(worker: Worker) -> None:
    worker.wait_until_reading()
    worker.children[0].kill()
    assert worker.process.wait(PLENTY_S) == 1
    assert worker.gone()
    assert re.search(
        r"error: the process of the role `(label|decide)` was killed by signal 9",
        worker.log.read_text(),
    )


def test_the_end_of_what_scores_ends_the_worker_though_it_has_nothing_to_do(
    worker: Worker,
) -> None:
    worker.wait_until_reading()
    (scoring,) = [p for p in worker.children if "stream.scoring_process.child" in p.cmdline()]
    scoring.kill()
    assert worker.process.wait(PLENTY_S) == 1
    assert worker.gone()
    log = worker.log.read_text()
    assert "the process that scores ended with code -9" in log
    assert "Nothing was committed past it" in log


def test_kill_9_of_the_worker_ends_its_roles(worker: Worker) -> None:
    worker.wait_until_reading()
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert worker.gone()


def test_what_a_role_cannot_start_with_is_said_once(
    kafka: KafkaSettings, tmp_path: Path, run_tidegate: RunTidegate
) -> None:
    (tmp_path / "policy.yaml").write_text("rules: [{id: a, when: toxicity.insolt >= 0.5}]")
    environment = kafka_environment(kafka) | {
        "TIDEGATE_POLICY__PATH": "policy.yaml",
        "TIDEGATE_MODELS__PRESET": "null",
    }
    done = run_tidegate("worker", "--role", "label", "--role", "decide", env=environment)
    assert done.returncode == 1
    assert "policy.yaml:1:" in done.stderr, "as a compiler says it"
    assert done.stderr.count("error: ") == 1
    done = run_tidegate("worker", "--role", "everything", env=environment)
    assert done.returncode == 2
    assert "there is no role `everything`" in done.stderr
