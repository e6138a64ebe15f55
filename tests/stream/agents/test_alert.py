"""The role `alert` as a process on real brokers: killed, started again, stood by for."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.alerts.evaluator import Evaluator
from stream.alerts.load import load_rules
from stream.kafka.client import kafka_python_config
from stream.kafka.scan import scan
from stream.outcomes import Alert, Metric, decode_alert
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import ALERTS, METRICS, Topic
from tests.conftest import TIDEGATE, clean_environment, kafka_environment
from tests.stream.alerts.streams import waves

RULES = """
rules:
  - {id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s,
     resolve_after: 10s, cool_down: 0s}
  - {id: everywhere, kind: threshold, measure: toxicity_rate, by: tag, over: 30%, window: 10s,
     together: true, cool_down: 30s}
  - {id: crowd, kind: change, measure: toxic, by: tag, history: 5m, level: 30m, min_authors: 5,
     window: 10s}
"""
KILLS = 20


class Role:
    """`tidegate worker --role alert`, to be killed and started again.

    Args:
        kafka: its broker, prefix and group.
        folder: its working directory, with the rules.
    """

    def __init__(self, kafka: KafkaSettings, folder: Path, rules: str = RULES) -> None:
        self.rules = folder / "alerts.yaml"
        self.rules.write_text(rules)
        self._env = clean_environment(kafka_environment(kafka)) | {
            "TIDEGATE_ALERTS__PATH": str(self.rules),
            # A static member gets its partition back at once, whatever became of it.
            "TIDEGATE_WORKER__INSTANCE": "one",
        }
        self._log = folder / "alert.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text()[-8000:]

    def start(self, instance: str = "one") -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [TIDEGATE, "worker", "--role", "alert"],
                env=self._env | {"TIDEGATE_WORKER__INSTANCE": instance},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def new_role(topics: KafkaSettings, tmp_path: Path) -> Iterator[Callable[..., Role]]:
    made: list[Role] = []

    def make(rules: str = RULES) -> Role:
        made.append(Role(topics, tmp_path, rules))
        return made[-1]

    yield make
    for role in made:
        role.kill()


def _write(kafka: KafkaSettings, topic: Topic, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=5)
    for value in values:
        producer.send(topic.full_name(kafka.topic_prefix), value=value, partition=0)
    producer.flush(30)
    producer.close()


def _alerts(kafka: KafkaSettings) -> list[Alert]:
    topic = ALERTS.full_name(kafka.topic_prefix)
    return [decode_alert(record.value or b"") for record in scan(kafka, topic)]


def _wait_for(kafka: KafkaSettings, number: int, role: Role, timeout_s: float = 90) -> list[Alert]:
    deadline = time.monotonic() + timeout_s
    while len(alerts := _alerts(kafka)) < number:
        assert time.monotonic() < deadline, f"{len(alerts)} of {number}\n{role.log}"
        assert role.process is not None
        assert role.process.poll() is None, role.log
        time.sleep(0.1)
    return alerts


def _undisturbed(role: Role, metrics: list[Metric]) -> list[tuple[str, str]]:
    """What an evaluator says that is never stopped, as (id, state)."""
    evaluator = Evaluator(load_rules(role.rules))
    outcomes = [outcome for each in metrics for outcome in evaluator.add(each)]
    outcomes += evaluator.advance(time.time())
    return [(outcome.alert.alert_id, outcome.alert.state) for outcome in outcomes]


def _begin(windows: int) -> int:
    """So that the last window is over a while ago and the first is not yet history."""
    return int(time.time()) // 10 * 10 - 10 * windows - 300


def test_twenty_kills_in_the_middle_of_episodes_lose_and_double_no_alert(
    topics: KafkaSettings, new_role: Callable[..., Role]
) -> None:
    metrics = list(waves(7, windows=300, groups=16, begin=_begin(300)))
    role = new_role()
    expected = _undisturbed(role, metrics)
    assert len(set(expected)) == len(expected)
    # All at once: the rules' clock is held back by what is still to be read, and only by that.
    _write(topics, METRICS, [encode(each) for each in metrics])
    dice = random.Random(7)
    in_the_middle = 0
    for _ in range(KILLS):
        before = len(_alerts(topics))
        role.start()
        _wait_for(topics, before + dice.randint(1, 5), role)
        role.kill()
        alerts = _alerts(topics)
        assert len(alerts) < len(expected), "there was nothing left to disturb"
        states = Counter(alert.state for alert in alerts)
        in_the_middle += states["firing"] > states["resolved"]
    role.start()
    _wait_for(topics, len(expected), role)
    assert role.stop() == 0, role.log
    found = [(alert.alert_id, alert.state) for alert in _alerts(topics)]
    assert Counter(found) == Counter(expected)
    assert in_the_middle >= KILLS // 2
