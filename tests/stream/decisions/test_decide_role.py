"""The role `decide` as a process on real brokers: killed, reloaded, tripped, overruled."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.labelled import find_labels
from stream.decisions.readback import TopicReader
from stream.decisions.recovery import Names, Recovery
from stream.kafka.client import aiokafka_config
from stream.kafka.embedded import EmbeddedBroker
from stream.outcomes import (
    QUOTA_SCHEMA,
    Action,
    Alert,
    Decision,
    Quota,
    Review,
    decode_alert,
    decode_decision,
)
from stream.records import Label, encode
from stream.roles import Duty, group_of
from stream.settings import KafkaSettings, Settings
from stream.topics import ALERTS, DECISIONS, LABELS, QUOTAS, REVIEWS, Topic
from tests.conftest import RunTidegate, StartTidegate, kafka_environment, topics_on
from tests.stream.decisions.labels import Topics, deciding_over, label_of, policy_of

PLENTY_S = 90
RULES = """
name: live
rules:
  - {id: insult, when: toxicity.insult >= 0.9, action: hide, severity: high, reason: harassment-other}
  - {id: chatty, when: 'count(author, "20s") >= 5', action: flag, severity: low, reason: misleading-spam}
  - {id: again, when: 'actions(author, "1m") >= 3', action: review, severity: low, reason: misleading-spam}
  - {id: wave, when: 'distinct_authors(tag, "30s") >= 4', action: limit, severity: low, reason: misleading-spam}
"""


def put(kafka: KafkaSettings, topic: Topic, values: dict[int, list[bytes]]) -> None:
    """Records by partition, all confirmed."""

    async def send() -> None:
        producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all", linger_ms=5)
        await producer.start()
        try:
            name = topic.full_name(kafka.topic_prefix)
            sent = [
                await producer.send(name, value, key=b"k", partition=partition)
                for partition, part in values.items()
                for value in part
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    asyncio.run(send())


def put_labels(kafka: KafkaSettings, *labels: Label) -> None:
    values: dict[int, list[bytes]] = defaultdict(list)
    for label in labels:
        assert label.origin is not None
        values[label.origin.partition].append(encode(label))
    put(kafka, LABELS, values)


def read(kafka: KafkaSettings, topic: Topic, partitions: int) -> list[bytes]:
    """Everything in the topic now."""
    name = topic.full_name(kafka.topic_prefix)
    with TopicReader(kafka) as reader:
        ranges = reader.ranges([(name, number) for number in range(partitions)])
        return [
            record.value or b""
            for (_, partition), (first, end) in ranges.items()
            for record in reader.read(name, partition, first, end)
        ]


def decisions(kafka: KafkaSettings) -> list[Decision]:
    return [decode_decision(value) for value in read(kafka, DECISIONS, kafka.partitions)]


def alerts(kafka: KafkaSettings) -> list[Alert]:
    return [decode_alert(value) for value in read(kafka, ALERTS, 1)]


def committed(kafka: KafkaSettings) -> int:
    """Labels that the role has committed."""

    async def ask() -> int:
        group = group_of(Settings(kafka=kafka), Duty("decide"))
        config = aiokafka_config(kafka)
        consumer = AIOKafkaConsumer(**config, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            name = LABELS.full_name(kafka.topic_prefix)
            places = [TopicPartition(name, number) for number in range(kafka.partitions)]
            consumer.assign(places)
            return sum([await consumer.committed(place) or 0 for place in places])
        finally:
            await consumer.stop()

    return asyncio.run(ask())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PLENTY_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def ends_of(kafka: KafkaSettings, topic: Topic) -> int:
    name = topic.full_name(kafka.topic_prefix)
    with TopicReader(kafka) as reader:
        ranges = reader.ranges([(name, number) for number in range(kafka.partitions)])
    return sum(within.end for within in ranges.values())


def outcome(decision: Decision) -> tuple[object, ...]:
    return decision.action, decision.severity, [match.id for match in decision.rules]


def test_kill_9_in_the_middle_changes_no_decision(
    topics: KafkaSettings, tmp_path: Path, start_tidegate: StartTidegate
) -> None:
    policy_of(tmp_path, RULES)
    made = [
        label_of(
            number,
            partition=partition,
            author=f"{partition}-{number % 40}",
            tags=["x"] if number % 50 == 0 else [],
            insult=0.95 if number % 90 == 7 else 0.1,
            at_ms=1_795_348_800_000 + 100 * number,
        )
        for number in range(1200)
        for partition in range(topics.partitions)
    ]
    put_labels(topics, *made)
    environment = kafka_environment(topics) | {
        "TIDEGATE_POLICY__PATH": str(tmp_path / "policy.yaml"),
        "TIDEGATE_WORKER__BATCH_POSTS": "100",
        "TIDEGATE_WORKER__COMMIT_INTERVAL_S": "0.5",
    }
    for wanted in (1, 2000):
        worker = start_tidegate("worker", "--role", "decide", env=environment)
        until(lambda wanted=wanted: ends_of(topics, DECISIONS) >= wanted, "no decisions")  # type: ignore[misc]
        worker.kill()
        worker.wait()
    assert committed(topics) < len(made), "it was to be killed in the middle"
    worker = start_tidegate("worker", "--role", "decide", env=environment)
    until(lambda: committed(topics) == len(made), "not caught up")
    worker.terminate()
    assert worker.wait(60) == 0

    found: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions(topics):
        found[decision.label_id or ""].append(decision)
    assert set(found) == {label.label_id for label in made}, "every label has a decision"
    assert {d.decision_id for several in found.values() for d in several} == {
        f"policy:{label.label_id}" for label in made
    }
    differing = [d for d in found.values() if len({str(outcome(each)) for each in d}) > 1]
    assert not differing, "no label was decided in two ways"

    # What a worker decides that nobody kills. Tags span partitions, whose order is nobody's.
    memory = Topics()
    for label in made:
        memory.put_label(label)
    rules = RULES.replace("  - {id: wave", "  # - {id: wave")
    alone = deciding_over(memory, policy_of(tmp_path, rules))
    for partition in range(topics.partitions):
        memory.deliver(alone.run([memory.span("labels", partition, 0, 1200)]).outputs)
    expected = {d.label_id: [m.id for m in d.rules if m.id != "again"] for d in memory.decisions}
    assert {
        label: [m.id for m in several[0].rules if m.id not in ("wave", "again")]
        for label, several in found.items()
    } == expected


@pytest.fixture
def embedded_topics(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    return topics_on(embedded_broker, partitions=2)


def test_the_last_counts_of_all_partitions_are_read(embedded_topics: KafkaSettings) -> None:
    kafka = embedded_topics
    first, last, other = (
        Quota(
            schema=QUOTA_SCHEMA,
            partition=partition,
            day="2026-11-22",
            next_offset=offset,
            at="2026-11-22T12:00:00.000Z",
            tripped={"insult": "2026-11-22T11:00:00.000Z"},
            limits={"insult": offset},
        )
        for partition, offset in ((0, 3), (0, 5), (1, 4))
    )
    with TopicReader(kafka) as reader:
        recovery = Recovery(reader, Names.of(kafka.topic_prefix))
        assert recovery.quotas() == []
        put(kafka, QUOTAS, {0: [encode(first), encode(last)], 1: [encode(other)]})
        assert recovery.quotas() == [last, other]


def review(number: int, label: Label, **values: object) -> bytes:
    return encode(
        Review(
            schema="tidegate.review.v1",
            review_id=f"r{number}",
            post_id=label.post_id,
            reviewer="owl",
            at=f"2026-11-22T12:{number:02}:00.000Z",
            decision_id=f"policy:{label.label_id}",
            **values,  # type: ignore[arg-type] # as the test names them
        )
    )


def test_a_day_in_the_life_of_a_policy(
    embedded_topics: KafkaSettings,
    tmp_path: Path,
    start_tidegate: StartTidegate,
    run_tidegate: RunTidegate,
) -> None:
    kafka = embedded_topics
    rules = RULES.replace("harassment-other}", "harassment-other, quota: 3}")
    policy = policy_of(tmp_path, rules)
    environment = kafka_environment(kafka) | {
        "TIDEGATE_POLICY__PATH": str(tmp_path / "policy.yaml"),
        "TIDEGATE_POLICY__RELOAD_S": "0.3",
    }
    worker = start_tidegate("worker", "--role", "decide", env=environment)

    def last(post_id: str) -> Decision | None:
        return {d.post_id: d for d in decisions(kafka)}.get(post_id)

    def becomes(post_id: str, action: str, **values: object) -> Decision:
        def there() -> bool:
            found = last(post_id)
            return (
                found is not None
                and found.action == action
                and all(getattr(found, name) == value for name, value in values.items())
            )

        until(there, f"{post_id} does not become {action}: {last(post_id)}")
        found = last(post_id)
        assert found is not None
        return found

    # A quota: the fourth match is a shadow, and an alert says so.
    abuse = [
        label_of(n, author=f"a{n}", insult=0.95, text=f"you {n}", at_ms=1_795_348_800_000 + n)
        for n in range(5)
    ]
    put_labels(kafka, *abuse)
    becomes("p0-2", "hide", policy=policy.version)
    becomes("p0-4", "allow", quota="insult")
    (alert,) = alerts(kafka)
    assert (alert.state, alert.kind, alert.group["rule"]) == ("firing", "pipeline", "insult")

    # People: a verdict, and back again.
    put(kafka, REVIEWS, {0: [review(1, abuse[0], action=Action.ALLOW)]})
    becomes("p0-0", "allow", by="review", reviewer="owl")
    put(kafka, REVIEWS, {0: [review(2, abuse[0], verdict="undo", undoes="r1")]})
    becomes("p0-0", "hide", by="policy", review_id="r2")
    put(kafka, REVIEWS, {0: [review(3, abuse[1], action=Action.REMOVE)]})
    becomes("p0-1", "remove")

    # A changed file: with a mistake the old policy stays, then the new one is in force.
    (tmp_path / "policy.yaml").write_text(rules.replace("toxicity.insult", "toxicity.insolt"))
    put_labels(kafka, label_of(20, author="b", insult=0.95))
    becomes("p0-20", "allow", quota="insult", policy=policy.version)
    changed = policy_of(tmp_path, rules.replace("quota: 3", "quota: 30"))
    time.sleep(0.5)  # looked at every 0.3 s; the label after it is decided by the new one
    put_labels(kafka, label_of(21, author="c", insult=0.95))
    becomes("p0-21", "hide", policy=changed.version)
    until(lambda: alerts(kafka)[-1].state == "resolved", "the raised quota resolves the alert")
    assert alerts(kafka)[-1].alert_id == alert.alert_id

    # A deleted post has no decision any more.
    put_labels(kafka, label_of(30, post_id="p0-21", author="c", retracted=True))
    assert becomes("p0-21", "allow", retracted=True).rules == []

    until(lambda: committed(kafka) == 8, "not committed")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0

    # A backtest of the policy that decided gives the matches that were decided live.
    done = run_tidegate(
        "policy", "backtest", "--policy", "policy.yaml", "--since", "1h", "--processes", "1",
        "--json", env=environment, cwd=tmp_path, timeout_s=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    live = Counter(m.id for d in decisions(kafka) if d.label_offset is not None for m in d.rules)
    assert {r["rule"]: r["matches"] for r in result["rules"] if r["matches"]} == dict(live)
    assert (result["labels"], result["retracted"], result["judged"]) == (7, 1, 1)

    # What people decided, as training data.
    out = tmp_path / "train.jsonl"
    done = run_tidegate("reviews", "export", str(out), "--json", env=environment, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 1
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (row["text"], row["lang"], row["labels"]) == ("you 1", "en", {"toxicity": ["insult"]})
    assert find_labels(out, "toxicity") == (["insult"], True)
    done = run_tidegate("reviews", "list", "--json", env=environment, timeout_s=120)
    listed = json.loads(done.stdout)["reviews"]
    assert [(r["review_id"], r["stands"]) for r in listed] == [
        ("r3", True),
        ("r2", False),
        ("r1", False),
    ]
