"""The pipeline over topics in memory: killed anywhere, reloaded, and given what is no label."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.decisions import breakers as module
from stream.decisions.failures import Failures
from stream.outcomes import Action, Decision
from stream.policy import Policy
from stream.records import decode_dead_letter
from tests.stream.decisions.labels import (
    RULES,
    GivenPolicy,
    Topics,
    deciding_over,
    fill,
    label_of,
    policy_of,
    run,
)

pytestmark = pytest.mark.usefixtures("at_once")


def outcome(decision: Decision) -> tuple[object, ...]:
    """What a decision says, less when it was made."""
    rules = [(match.id, match.mode) for match in decision.rules]
    return decision.action, decision.severity, decision.quota, rules


def uninterrupted(policy: Policy, count: int, partitions: int = 1) -> dict[str, Decision]:
    topics = Topics()
    fill(topics, count, partitions)
    deciding = deciding_over(topics, policy)
    for start in range(0, count, 10):
        for partition in range(partitions):
            run(deciding, topics, start, min(start + 10, count), partition)
    return {decision.decision_id: decision for decision in topics.decisions}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kills=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 25)), max_size=4),
    late=st.integers(0, 4),
)
def test_a_kill_anywhere_changes_no_decision(
    kills: list[tuple[int, int]], late: int, policy: Policy
) -> None:
    """A kill after so many labels, with a commit that lies so many labels behind.

    What is used of the quotas was written so many batches `late`.
    """
    with pytest.MonkeyPatch.context() as patch:
        if late:
            patch.setattr(module, "_UNDELIVERED_S", 1000)
            patch.setattr(module, "_UNDELIVERED_BATCHES", late)
        _kill(kills, policy)


def _kill(kills: list[tuple[int, int]], policy: Policy) -> None:
    expected = uninterrupted(policy, 60)
    topics = Topics()
    fill(topics, 60)
    deciding, at = deciding_over(topics, policy), 0
    for decided, behind in sorted(kills):
        while at < decided:
            run(deciding, topics, at, min(at + 7, decided))
            at = min(at + 7, decided)
        deciding, at = deciding_over(topics, policy), max(0, at - behind)
    while at < 60:
        run(deciding, topics, at, min(at + 7, 60))
        at = min(at + 7, 60)
    decisions = topics.decisions
    assert {d.decision_id: outcome(d) for d in decisions} == {
        name: outcome(d) for name, d in expected.items()
    }
    assert len(decisions) == 60, "what was decided is not decided again"
    told = [(alert.alert_id, alert.state) for alert in topics.alerts]
    assert told == [("quota:insult:2026-11-22", "firing")], "once, whatever is counted again"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lost=st.integers(0, 12), at=st.integers(10, 50))
def test_decisions_that_were_not_delivered_are_made_after_the_kill(
    lost: int, at: int, policy: Policy
) -> None:
    """The last batch was computed, and the worker killed before all of it was with the broker."""
    expected = uninterrupted(policy, 60)
    topics = Topics()
    fill(topics, 60)
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, at)
    outputs = deciding.run([topics.span("labels", 0, at, min(at + 12, 60))]).outputs
    topics.deliver([o for o in outputs if o.topic == "decisions"][:lost])
    again = deciding_over(topics, policy)
    run(again, topics, at, 60)
    found = {d.decision_id: outcome(d) for d in topics.decisions}
    assert found == {name: outcome(d) for name, d in expected.items()}


def test_every_label_has_one_decision_in_its_partition(policy: Policy) -> None:
    topics = Topics()
    fill(topics, 20, partitions=3)
    deciding = deciding_over(topics, policy)
    for partition in range(3):
        run(deciding, topics, 0, 20, partition)
    by_partition = defaultdict(list)
    for (topic, partition), place in topics.records.items():
        if topic == "decisions":
            by_partition[partition] = list(place)
    assert {p: len(d) for p, d in by_partition.items()} == {0: 20, 1: 20, 2: 20}
    decision = topics.decisions[3]
    assert decision.decision_id == f"policy:{decision.label_id}"
    assert (decision.label_offset, decision.policy) == (3, policy.version)


def test_tags_are_counted_over_the_partitions_of_a_worker(policy: Policy) -> None:
    topics = Topics()
    for partition in range(3):
        topics.put_label(label_of(0, partition=partition, author=f"a{partition}", tags=["x"]))
    deciding = deciding_over(topics, policy)
    for partition in range(3):
        run(deciding, topics, 0, 1, partition)
    assert [[m.id for m in d.rules] for d in topics.decisions] == [[], [], ["wave"]]


def test_longer_windows_after_a_reload_begin_in_the_past(policy: Policy, tmp_path: Path) -> None:
    topics = Topics()
    for number in range(10):
        topics.put_label(label_of(number))
    watch = GivenPolicy(policy)
    deciding = deciding_over(topics, watch)
    run(deciding, topics, 0, 9)
    watch.change(policy_of(tmp_path, RULES.replace('"20s") >= 5', '"1h") >= 10')))
    run(deciding, topics, 9, 10)
    assert "chatty" in [match.id for match in topics.decisions[-1].rules]


def test_what_is_no_label_becomes_a_dead_letter_and_the_rest_goes_on(policy: Policy) -> None:
    topics = Topics()
    topics.put_label(label_of(0))
    topics.put("labels", 0, b'{"schema":"tidegate.label.v1","label_id":3}')
    topics.put_label(label_of(2))
    outcome = deciding_over(topics, policy).run([topics.span("labels", 0, 0, 3)])
    topics.deliver(outcome.outputs)
    assert (outcome.labels, outcome.dead_letters, len(topics.decisions)) == (2, 1, 2)
    letter = decode_dead_letter(topics.records["dead-letters", 0][0].value)
    assert letter.origin is not None
    assert (letter.origin.topic, letter.origin.offset) == ("labels", 1)
    assert letter.error.startswith("not a label:")


def test_a_rule_that_fails_is_counted_and_said_once_a_minute(tmp_path: Path) -> None:
    rules = """
rules:
  - {id: broken, when: 'post.links[0] == "x"', action: hide, severity: low, reason: other}
  - {id: good, when: post.chars > 0, action: flag, severity: low, reason: other}
"""
    topics, now_s, at = Topics(), 0.0, 0
    for number in range(9):
        topics.put_label(label_of(number))
    deciding = deciding_over(topics, policy_of(tmp_path, rules))
    deciding._failures = Failures(lambda: now_s)
    said = []
    for posts, now_s in ((2, 0.0), (3, 59.0), (4, 61.0), (0, 200.0)):  # noqa: B007 - the clock's
        if posts:
            run(deciding, topics, at, at + posts)
        at += posts
        with structlog.testing.capture_logs() as logs:
            deciding.tick([0], 1)
        said.append([(e["rule"], e["posts"], e["in_all"]) for e in logs if "posts" in e])
    assert said == [[("broken", 2, 2)], [], [("broken", 7, 9)], []]
    assert {(d.action, *d.failed_rules) for d in topics.decisions} == {(Action.FLAG, "broken")}
