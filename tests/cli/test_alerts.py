"""`tidegate alerts`: list, test, backtest, as a user runs them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from stream.alerts.evaluator import Evaluator
from stream.alerts.load import parse_rules
from stream.kafka.client import kafka_python_config
from stream.outcomes import Metric
from stream.records import LABEL_SCHEMA, Label, Post, TaskLabel, encode, rfc3339
from stream.settings import KafkaSettings
from stream.topics import ALERTS, METRICS, Topic
from tests.conftest import RunTidegate, kafka_environment
from tests.stream.alerts.streams import BEGIN, metric

RULES = """
rules:
  - {id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s,
     severity: high}
  - {id: busy, kind: threshold, measure: posts, by: tag, over: 15, window: 10s, severity: low}
  - {id: lag, kind: pipeline, measure: lag, over: 10}
"""


def wave() -> list[Metric]:
    """Calm, a wave of abuse in one tag, calm."""
    return [
        metric(
            BEGIN + 10 * n,
            20 if 6 <= n < 9 else 10,
            "launch",
            toxic=12 if 6 <= n < 9 else 0,
        )
        for n in range(20)
    ]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RULES)
    return path


def write(kafka: KafkaSettings, topic: Topic, values: list[bytes]) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(**kafka_python_config(kafka))
    for value in values:
        producer.send(topic.full_name(kafka.topic_prefix), value=value, partition=0)
    producer.flush(30)
    producer.close()


def test_the_tests_beside_the_rules_are_run(run_tidegate: RunTidegate, rules: Path) -> None:
    with rules.open("a") as file:
        file.write(
            "tests:\n"
            "  - {name: a wave, rule: toxic, windows: [{posts: 20, toxic: 12, times: 3}], fires: 1}\n"
            "  - {name: calm, rule: toxic, windows: [{posts: 20, times: 9}], fires: 1}\n"
        )
    done = run_tidegate("alerts", "test", "--rules", str(rules))
    assert done.returncode == 1
    assert "mine.yaml: 3 rules, 2 tests, 1 failed" in done.stdout
    assert "it fired never, not once" in done.stdout
    done = run_tidegate("alerts", "test", "--rules", str(rules), "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert [(test["name"], test["fired"], test["problem"]) for test in result["tests"]] == [
        ("a wave", 1, None),
        ("calm", 0, "it fired never, not once"),
    ]


def test_a_mistake_is_shown_and_an_unknown_rule_named(
    run_tidegate: RunTidegate, rules: Path
) -> None:
    done = run_tidegate("alerts", "test", "--rules", str(rules), "--rule", "toxi")
    assert done.returncode == 2
    assert "there is no rule `toxi`" in done.stderr
    assert "did you mean `toxic`?" in done.stderr
    rules.write_text(RULES.replace("over: 25%", "ovr: 25%"))
    done = run_tidegate("alerts", "test", "--rules", str(rules))
    assert done.returncode in (1, 2)
    assert "a threshold rule has no `ovr`" in done.stderr
    assert "^^^" in done.stderr


def test_a_backtest_over_files_says_which_episodes_there_would_have_been(
    run_tidegate: RunTidegate, rules: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "metrics.jsonl.gz"
    with gzip.open(stored, "wb") as file:
        file.writelines(encode(each) + b"\n" for each in wave())
        file.write(b"not a metric\n")
    done = run_tidegate(
        "alerts", "backtest", "--rules", str(rules), "--metrics", str(stored), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "1 record is no metric and was left out" in done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"] == 20
    assert result["skipped"] == ["lag"]
    assert [(r["rule"], r["fired"], r["open"]) for r in result["rules"]] == [
        ("toxic", 1, 0),
        ("busy", 1, 0),
    ]
    toxic = next(e for e in result["episodes"] if e["rule"] == "toxic")
    assert (toxic["group"], toxic["lasted_s"]) == ({"tag": "launch"}, 50)
    table = run_tidegate("alerts", "backtest", "--rules", str(rules), "--metrics", str(stored))
    assert "Toxicity rate 40 % in tag launch" in table.stdout
    (row,) = [line.split() for line in table.stdout.splitlines() if line.startswith("toxic")]
    assert row == ["toxic", "1", "1", "50", "s"], "no figure a day of some minutes"


def test_a_backtest_counts_labels_first(
    run_tidegate: RunTidegate, rules: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "labels.jsonl"
    with stored.open("wb") as file:
        for n in range(400):
            at = rfc3339((BEGIN + n // 2) * 1000)
            toxic = 120 <= n < 180
            answer = TaskLabel(label="insult" if toxic else "none", score=0.9)
            file.write(
                encode(
                    Label(
                        schema=LABEL_SCHEMA,
                        label_id=f"l{n}",
                        post_id=f"p{n}",
                        labels={"toxicity": answer},
                        models={},
                        labelled_at=at,
                        posted_at=at,
                        post=Post(id=f"p{n}", text="x", author=f"a{n}", tags=["launch"]),
                    )
                )
                + b"\n"
            )
    done = run_tidegate(
        "alerts", "backtest", "--rules", str(rules), "--labels", str(stored), "--json"
    )
    assert done.returncode == 0, done.stderr
    episodes = json.loads(done.stdout)["episodes"]
    groups = [e["group"] for e in episodes if e["rule"] == "toxic"]
    assert groups == [{"tag": "launch"}]


def test_a_backtest_wants_one_source(run_tidegate: RunTidegate, rules: Path) -> None:
    done = run_tidegate("alerts", "backtest", "--rules", str(rules))
    assert done.returncode == 2
    assert "one of `--metrics`, `--labels` and `--since`" in done.stderr
    done = run_tidegate("alerts", "backtest", "--metrics", "nowhere.jsonl")
    assert done.returncode == 1
    assert "nowhere.jsonl: the file cannot be read: no such file" in done.stderr


def test_a_backtest_of_a_damaged_file_says_so(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 50_000)[:-20])
    done = run_tidegate("alerts", "backtest", "--metrics", "cut.jsonl.gz")
    assert done.returncode == 1
    assert "cut.jsonl.gz: the file cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_topics_are_read_and_a_test_is_sent_through_them(
    run_tidegate: RunTidegate, rules: Path, embedded_topics: KafkaSettings
) -> None:
    kafka = embedded_topics
    env = kafka_environment(kafka)
    evaluator = Evaluator(parse_rules(RULES, "mine.yaml"))
    alerts = [outcome.alert for each in wave() for outcome in evaluator.add(each)]
    assert len(alerts) == 4
    write(kafka, ALERTS, [encode(each) for each in alerts[:-1]])
    write(kafka, METRICS, [encode(each) for each in wave()])
    listed = json.loads(run_tidegate("alerts", "list", "--json", env=env).stdout)["alerts"]
    open_ = alerts[2].alert_id if alerts[2].state == "firing" else alerts[3].alert_id
    assert {alert["alert_id"]: alert["state"] for alert in listed} == {
        alert.alert_id: "firing" if alert.alert_id == open_ else "resolved" for alert in alerts
    }
    assert all("over" in alert["summary"] for alert in listed), "what it fired for"
    only = run_tidegate("alerts", "list", "--severity", "high", "--state", "firing", env=env)
    assert ("toxic" in only.stdout) == open_.startswith("toxic")
    sent = run_tidegate("alerts", "test", "--fire", "--rules", str(rules), "--json", env=env)
    assert [(a["state"], a["test"]) for a in json.loads(sent.stdout)["sent"]] == [
        ("firing", True),
        ("resolved", True),
    ]
    hidden = json.loads(run_tidegate("alerts", "list", "--json", env=env).stdout)["alerts"]
    shown = json.loads(run_tidegate("alerts", "list", "--json", "--tests", env=env).stdout)[
        "alerts"
    ]
    assert (len(hidden), len(shown)) == (len(listed), len(listed) + 1)
    past = run_tidegate(
        "alerts", "backtest", "--since", "2027-01-01", "--rules", str(rules), "--json", env=env
    )
    # Written now, about a time to come: not since then.
    assert json.loads(past.stdout)["metrics"] == 0
    all_ = run_tidegate(
        "alerts", "backtest", "--since", "1h", "--rules", str(rules), "--json", env=env
    )
    assert json.loads(all_.stdout)["metrics"] == 20
    assert len(json.loads(all_.stdout)["episodes"]) == 2
