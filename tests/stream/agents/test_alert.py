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
from stream.records import Author, Label, ModelRef, Post, TaskLabel, encode, rfc3339
from stream.settings import KafkaSettings
from stream.topics import ALERTS, LABELS, METRICS, Topic
from tests.conftest import TIDEGATE, clean_environment, kafka_environment
from tests.stream.alerts.streams import metric, waves

RULES = """
rules:
  - {id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s,
     resolve_after: 10s, cool_down: 0s}
  - {id: everywhere, kind: threshold, measure: toxicity_rate, by: tag, over: 30%, window: 10s,
     together: true, cool_down: 30s}
  - {id: crowd, kind: change, measure: toxic, by: tag, history: 5m, level: 30m, min_authors: 5,
     window: 10s}
"""
#: On the broker that people run, and on the other as many as show that it does, too. Twenty kills
#: of the whole worker are `python -m tests.chaos.whole`.
KILLS = {"apache": 5, "embedded": 2}


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
        return self._log.read_text() if self._log.exists() else ""

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
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Role(topics, folder, rules))
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


def _wait_for(kafka: KafkaSettings, number: int, role: Role, timeout_s: float = 300) -> list[Alert]:
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


@pytest.mark.timeout(900)  # every life is a start of the worker, and cores may be few
def test_kills_in_the_middle_of_episodes_lose_and_double_no_alert(
    topics: KafkaSettings, new_role: Callable[..., Role], request: pytest.FixtureRequest
) -> None:
    metrics = list(waves(7, windows=300, groups=16, begin=_begin(300)))
    role = new_role()
    expected = _undisturbed(role, metrics)
    assert len(set(expected)) == len(expected)
    # All at once: the rules' clock is held back by what is still to be read, and only by that.
    _write(topics, METRICS, [encode(each) for each in metrics])
    dice = random.Random(7)
    in_the_middle = 0
    kills = KILLS[request.node.callspec.params["broker"]]
    for _ in range(kills):
        before = role.log.count('"event": "alert"')
        role.start()
        # The log says it when the broker has confirmed and nothing is remembered yet.
        _until(role, '"event": "alert"', before + dice.randint(1, 5))
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
    assert in_the_middle >= kills // 2


def test_an_alert_carries_posts_of_its_window_and_time_goes_on_without_metrics(
    topics: KafkaSettings, new_role: Callable[..., Role]
) -> None:
    begin = _begin(60)
    calm = [metric(begin + 10 * n, 10, "launch") for n in range(30)]
    wave = [metric(begin + 300 + 10 * n, 30, "launch", toxic=20) for n in range(4)]
    _write(topics, LABELS, [_label(begin + 301, n) for n in range(30)])
    _write(topics, METRICS, [encode(each) for each in [*calm, *wave]])
    rule = "{id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s}"
    role = new_role(f"rules: [{rule}]")
    role.start()
    # Nothing comes after the wave: the clock alone says that it is over.
    fired, resolved = _wait_for(topics, 2, role)
    assert role.stop() == 0, role.log
    assert (fired.state, fired.group) == ("firing", {"tag": "launch"})
    assert (resolved.alert_id, resolved.state) == (fired.alert_id, "resolved")
    assert [example.score for example in fired.examples] == [0.95, 0.94, 0.93, 0.92, 0.91]
    assert [example.author for example in fired.examples] == ["a5", "a4", "a3", "a2", "a1"]
    assert fired.examples[0].text == "you are a mouldy turnip, number 5"
    assert "mouldy" not in role.log


def test_a_changed_file_is_in_force_without_a_restart_and_one_with_a_mistake_is_not(
    topics: KafkaSettings, new_role: Callable[..., Role]
) -> None:
    now = int(time.time()) // 10 * 10
    _write(topics, METRICS, [encode(metric(now - 10 * n, 10)) for n in range(6, 0, -1)])
    rule = "rules: [{id: NAME, kind: threshold, measure: posts, over: 5, window: 10m}]"
    role = new_role(rule.replace("NAME", "before"))
    role.start()
    (fired,) = _wait_for(topics, 1, role)
    role.rules.write_text(rule.replace("NAME", "after").replace("over", "ovr"))
    _until(role, '"event": "alert rules not reloaded"')
    role.rules.write_text(rule.replace("NAME", "after"))
    found = {(alert.rule, alert.state): alert for alert in _wait_for(topics, 3, role)}
    assert set(found) == {("before", "firing"), ("before", "resolved"), ("after", "firing")}
    assert found["before", "resolved"].alert_id == fired.alert_id
    assert found["before", "resolved"].summary == "Rule `before` is not in force any more"
    # Of the windows from before the change, which are read back.
    assert found["after", "firing"].posts == 60
    assert role.stop() == 0, role.log


def test_one_evaluates_and_another_stands_by(new_role: Callable[..., Role]) -> None:
    first, second = new_role(), new_role()
    first.start("one")
    _until(first, '"event": "evaluating"')
    second.start("two")
    _until(second, '"event": "reading"')
    working = [role for role in (first, second) if _at_work(role)]
    assert len(working) == 1
    working[0].kill()
    (other,) = {first, second} - set(working)
    _until(other, '"event": "evaluating"', lines=_evaluations(other) + 1)


def _evaluations(role: Role) -> int:
    return role.log.count('"event": "evaluating"')


def _at_work(role: Role) -> bool:
    """Whether the last thing it was given is the partition."""
    assigned = [line for line in role.log.splitlines() if '"event": "reading"' in line]
    return '"partitions": []' not in assigned[-1]


def _until(role: Role, text: str, lines: int = 1, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while role.log.count(text) < lines:
        assert time.monotonic() < deadline, role.log
        time.sleep(0.01)


def _label(at: int, number: int) -> bytes:
    """Posts by ten authors, the first six of them the most toxic, the sixth most of all."""
    toxic = number != 9  # the tenth author's are not
    stamp = rfc3339(at * 1000)
    score = round(0.90 + number / 100, 2) if number < 6 else 0.5
    return encode(
        Label(
            schema="tidegate.label.v1",
            label_id=f"l{number}",
            post_id=f"p{number}",
            labels={"toxicity": TaskLabel(label="insult" if toxic else "none", score=score)},
            models={"toxicity": ModelRef(id="m", version="1")},
            labelled_at=stamp,
            posted_at=stamp,
            post=Post(
                id=f"p{number}",
                text=f"you are a mouldy turnip, number {number}",
                author=Author(id=f"a{number % 10}"),
                tags=["launch"],
            ),
        )
    )
