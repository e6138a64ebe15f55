"""Rules about the pipeline as processes see it: lag, dead letters and quotas, of a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.kafka.scan import scan
from stream.outcomes import Alert, Decision, decode_alert, decode_decision
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import ALERTS, DEAD_LETTERS, DECISIONS, LABELS, POSTS, Topic
from tests.conftest import StartTidegate, kafka_environment, kafka_settings
from tests.processes import family_of, kill
from tests.stream.decisions.labels import label_of, policy_of

POLICY = """
name: live
rules:
  - {id: insult, when: toxicity.insult >= 0.9, action: hide, severity: high,
     reason: harassment-other, quota: 3}
"""
RULES = """
rules:
  - {id: behind, kind: pipeline, measure: lag, over: 30, only: [GROUP]}
  - {id: broken, kind: pipeline, measure: dead_letter_rate, over: 10%}
  - {id: tripped, kind: pipeline, measure: quota_tripped}
"""
PLENTY_S = 240


def _topics(broker: EmbeddedBroker) -> KafkaSettings:
    from stream.kafka.admin import open_admin

    kafka = kafka_settings(broker, partitions=1)
    with open_admin(kafka) as admin:
        admin.create_missing()
    return kafka


def _put(kafka: KafkaSettings, topic: Topic, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(**kafka_python_config(kafka), linger_ms=5)
    for value in values:
        producer.send(topic.full_name(kafka.topic_prefix), value=value, partition=0)
    producer.flush(30)
    producer.close()


def _posts(name: str, count: int) -> list[bytes]:
    return [json.dumps({"id": f"{name}{n}", "text": "hello"}).encode() for n in range(count)]


def _commit(kafka: KafkaSettings, offset: int) -> None:
    """The labelling group's place in `posts`, as a worker commits it."""
    from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

    config = kafka_python_config(kafka)
    consumer = KafkaConsumer(**config, group_id=kafka.group, enable_auto_commit=False)
    place = TopicPartition(POSTS.full_name(kafka.topic_prefix), 0)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
    consumer.close()


def _alerts(kafka: KafkaSettings) -> list[Alert]:
    topic = ALERTS.full_name(kafka.topic_prefix)
    return [decode_alert(record.value or b"") for record in scan(kafka, topic)]


def _decisions(kafka: KafkaSettings) -> list[Decision]:
    topic = DECISIONS.full_name(kafka.topic_prefix)
    return [decode_decision(record.value or b"") for record in scan(kafka, topic)]


def _until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PLENTY_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def _kill_all(worker: subprocess.Popen[str]) -> None:
    """Kill -9 of the worker with every role's process."""
    parent, *children = family_of(worker.pid)
    kill([*children, parent])
    psutil.wait_procs([*children, parent], timeout=30)


def _story(kafka: KafkaSettings) -> Counter[tuple[str, str]]:
    return Counter((alert.rule, alert.state) for alert in _alerts(kafka))


@pytest.mark.timeout(900)  # the pipeline is looked at every 10 s, and rules are evaluated as often
def test_lag_dead_letters_and_quotas_fire_and_resolve_once_though_all_is_killed(
    embedded_broker: EmbeddedBroker, tmp_path: Path, start_tidegate: StartTidegate
) -> None:
    kafka = _topics(embedded_broker)
    policy_of(tmp_path, POLICY)
    rules = tmp_path / "alerts.yaml"
    rules.write_text(RULES.replace("GROUP", kafka.group))
    environment = kafka_environment(kafka) | {
        "TIDEGATE_POLICY__PATH": str(tmp_path / "policy.yaml"),
        "TIDEGATE_POLICY__RELOAD_S": "0.3",
        "TIDEGATE_ALERTS__PATH": str(rules),
        # Static members get their partitions back at once, whatever became of them.
        "TIDEGATE_WORKER__INSTANCE": "one",
    }
    _put(kafka, POSTS, _posts("p", 40))
    _commit(kafka, 40)

    def start() -> subprocess.Popen[str]:
        return start_tidegate("worker", "--role", "decide", "--role", "alert", env=environment)

    worker = start()
    # Nobody labels, and no metric comes: the clock of these rules is the wall's.
    _put(kafka, POSTS, _posts("q", 40))
    _until(lambda: _story(kafka) == {("behind", "firing"): 1}, lambda: _story(kafka))
    (alert,) = _alerts(kafka)
    assert (alert.group, alert.observed, alert.threshold) == ({"part": kafka.group}, 40, 30)

    # Who saw the lag has counted what there is: what comes now is more than before.
    _put(kafka, POSTS, _posts("r", 40))
    abuse = [label_of(n, author=f"a{n}", insult=0.95) for n in range(6)]
    _put(kafka, LABELS, [*map(encode, abuse), *(b"no label %d" % n for n in range(10))])
    firing = {(rule, "firing"): 1 for rule in ("behind", "broken", "tripped", "quota:insult")}
    _until(lambda: _story(kafka) == firing, lambda: _story(kafka))
    found = {alert.rule: alert for alert in _alerts(kafka)}
    assert found["broken"].observed in (0.125, 0.25), "10 of the posts since the first look"
    assert (found["tripped"].group, found["tripped"].kind) == ({"part": "insult"}, "pipeline")
    assert (found["quota:insult"].group["rule"], found["quota:insult"].observed) == ("insult", 3)
    assert len(list(scan(kafka, DEAD_LETTERS.full_name(kafka.topic_prefix)))) == 10
    # The rule is in shadow: its matches are in the decisions, and nothing is dropped.
    decided = [(d.action, d.quota, [m.mode for m in d.rules]) for d in _decisions(kafka)]
    assert decided == [("hide", None, ["live"])] * 3 + [("allow", "insult", ["shadow"])] * 3

    _kill_all(worker)
    worker = start()
    _put(kafka, POSTS, _posts("s", 400))
    _commit(kafka, 520)
    _put(kafka, LABELS, [encode(label_of(20, author="b", insult=0.95))])
    _until(lambda: len(_decisions(kafka)) == 7, lambda: _decisions(kafka))
    assert (_decisions(kafka)[-1].action, _decisions(kafka)[-1].quota) == ("allow", "insult")
    policy_of(tmp_path, POLICY.replace("quota: 3", "quota: 30"))
    _until(lambda: _story(kafka)["quota:insult", "resolved"] == 1, lambda: _story(kafka))
    _put(kafka, LABELS, [encode(label_of(21, author="c", insult=0.95))])
    _until(lambda: len(_decisions(kafka)) == 8, lambda: _decisions(kafka))
    assert (_decisions(kafka)[-1].action, _decisions(kafka)[-1].quota) == ("hide", None)
    both = firing | {(rule, "resolved"): 1 for rule, _ in firing}
    _until(lambda: len(_alerts(kafka)) >= len(both), lambda: _story(kafka))
    assert _story(kafka) == both, "each once, though everything was killed in between"
    ids = Counter(alert.alert_id for alert in _alerts(kafka))
    assert set(ids.values()) == {2}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
