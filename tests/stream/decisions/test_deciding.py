"""The pipeline over topics in memory: killed anywhere, with quotas, reviews, deletes and reloads."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.decisions import breakers as module
from stream.decisions.deciding import Deciding
from stream.decisions.quotas import Quotas
from stream.outcomes import QUOTA_SCHEMA, Action, Decision, Quota, Review, decode_quota
from stream.policy import Policy
from stream.records import decode_dead_letter, rfc3339
from tests.stream.decisions.labels import (
    NOON_MS,
    GivenPolicy,
    Topics,
    deciding_over,
    label_of,
    policy_of,
)

RULES = """
name: test
quota: 12
rules:
  - {id: insult, when: toxicity.insult >= 0.5, action: hide, severity: high, reason: harassment-other, quota: 5}
  - {id: chatty, when: 'count(author, "20s") >= 5', action: flag, severity: low, reason: misleading-spam}
  - {id: wave, when: 'distinct_authors(tag, "30s") >= 3', action: limit, severity: low, reason: misleading-spam, mode: shadow}
  - {id: again, when: 'actions(author, "1m") >= 2', action: review, severity: low, reason: misleading-spam}
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is used of the quotas is written with every batch."""
    monkeypatch.setattr(module, "_COUNT_EVERY_S", 0)
    monkeypatch.setattr(module, "_COUNT_AT_LEAST_S", 0)
    monkeypatch.setattr(module, "_UNDELIVERED_S", -1)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return policy_of(tmp_path_factory.mktemp("policy"), RULES)


def run(deciding: Deciding, topics: Topics, start: int, end: int, partition: int = 0) -> None:
    """A batch of labels, delivered."""
    span = topics.span("labels", partition, start, end)
    topics.deliver(deciding.run([span]).outputs)


def fill(topics: Topics, count: int, partitions: int = 1) -> None:
    for number in range(count):
        for partition in range(partitions):
            topics.put_label(
                label_of(
                    number,
                    partition=partition,
                    author=f"{partition}-{number % 3}",
                    tags=["x"] if number % 4 == 0 else [],
                    insult=0.9 if number % 7 == 3 else 0.1,
                )
            )


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


def test_a_quota_trips_the_rule_into_shadow_and_says_so(policy: Policy) -> None:
    topics = Topics()
    for number in range(9):
        topics.put_label(label_of(number, author=f"a{number}", insult=0.9))
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 9)
    decisions = topics.decisions
    assert [d.action for d in decisions] == ["hide"] * 5 + ["allow"] * 4
    assert [d.quota for d in decisions] == [None] * 5 + ["insult"] * 4
    assert [d.rules[0].mode for d in decisions] == ["live"] * 5 + ["shadow"] * 4
    (alert,) = topics.alerts
    assert (alert.alert_id, alert.state, alert.kind) == (
        "quota:insult:2026-11-22",
        "firing",
        "pipeline",
    )
    assert (alert.observed, alert.threshold) == (5, 5)

    # A restart counts nothing again, and fires no second time.
    again = deciding_over(topics, policy)
    for number in range(9, 12):
        topics.put_label(label_of(number, author=f"a{number}", insult=0.9))
    run(again, topics, 6, 12)
    assert [d.quota for d in topics.decisions[9:]] == ["insult"] * 3
    assert len(topics.alerts) == 1

    # The next day everything begins at none, whether a label comes or not.
    topics.clock_ms += 86_400_000
    topics.deliver(again.tick([0], 1))
    assert [(a.alert_id, a.state) for a in topics.alerts][1:] == [
        ("quota:insult:2026-11-22", "resolved")
    ]
    topics.put_label(label_of(12, author="late", insult=0.9))
    run(again, topics, 12, 13)
    assert topics.decisions[-1].action is Action.HIDE


def test_a_restart_on_another_day_resolves_what_was_tripped(policy: Policy) -> None:
    topics = Topics()
    for number in range(6):
        topics.put_label(label_of(number, author=f"a{number}", insult=0.9))
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 6)
    topics.clock_ms += 86_400_000
    topics.deliver(deciding_over(topics, policy).tick([0], 1))
    assert [a.state for a in topics.alerts] == ["firing", "resolved"]
    topics.deliver(deciding_over(topics, policy).tick([0], 1))
    assert len(topics.alerts) == 2, "and only once"
    last = decode_quota(topics.records["quotas", 0][-1].value)
    assert (last.day, last.tripped) == ("2026-11-23", {})


def test_the_quota_over_all_rules_trips_every_strong_one(tmp_path: Path) -> None:
    rules = """
name: test
quota: 3
rules:
  - {id: insult, when: toxicity.insult >= 0.5, action: hide, severity: high, reason: harassment-other}
  - {id: weak, when: toxicity.insult >= 0.5, action: flag, severity: low, reason: harassment-other}
"""
    topics = Topics()
    for number in range(5):
        topics.put_label(label_of(number, insult=0.9))
    run(deciding_over(topics, policy_of(tmp_path, rules)), topics, 0, 5)
    assert [d.action for d in topics.decisions] == ["hide"] * 3 + ["flag"] * 2
    assert [d.quota for d in topics.decisions] == [None] * 3 + ["all-rules"] * 2
    assert [a.alert_id for a in topics.alerts] == ["quota:all-rules:2026-11-22"]


def test_a_raised_quota_lets_the_rule_act_again(policy: Policy, tmp_path: Path) -> None:
    topics = Topics()
    for number in range(8):
        topics.put_label(label_of(number, author=f"a{number}", insult=0.9))
    watch = GivenPolicy(policy)
    deciding = deciding_over(topics, watch)
    run(deciding, topics, 0, 6)
    watch.change(policy_of(tmp_path, RULES.replace("quota: 5", "quota: 7")))
    run(deciding, topics, 6, 8)
    assert [d.action for d in topics.decisions] == ["hide"] * 5 + ["allow"] + ["hide"] * 2
    assert [(a.alert_id, a.state) for a in topics.alerts] == [
        ("quota:insult:2026-11-22", "firing"),
        ("quota:insult:2026-11-22", "resolved"),
        ("quota:insult:2026-11-22:2", "firing"),
    ], "a second episode of the day has an id of its own"
    assert len({d.policy for d in topics.decisions}) == 2, "the version in force is on each"


def test_other_workers_share_the_quota(policy: Policy) -> None:
    topics = Topics()
    for partition in range(2):
        for number in range(4):
            topics.put_label(
                label_of(number, partition=partition, author=f"{partition}{number}", insult=0.9)
            )
    run(deciding_over(topics, policy), topics, 0, 4, 0)
    second = deciding_over(topics, policy)
    topics.deliver(second.tick([1], 2))
    run(second, topics, 0, 4, 1)
    assert [d.quota for d in topics.decisions[4:]] == [None, "insult", "insult", "insult"]


def test_a_worker_that_has_not_seen_a_raised_quota_trips_it_for_no_other() -> None:
    quotas = Quotas({"insult": 7}, "2026-11-22")
    told = Quota(
        schema=QUOTA_SCHEMA, partition=1, day="2026-11-22", next_offset=5, at=rfc3339(NOON_MS),
        used={"insult": 5}, tripped={"insult": rfc3339(NOON_MS), "gone": rfc3339(NOON_MS)},
    )  # fmt: skip
    quotas.elsewhere([told])
    assert quotas.tripped == {}
    quotas.elsewhere([told, msgspec.structs.replace(told, partition=2, used={"insult": 2})])
    assert quotas.tripped == {"insult": rfc3339(NOON_MS)}, "the same time as the other says"


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


# -- people


def review(
    number: int,
    post_id: str = "p0-1",
    *,
    action: Action | None = None,
    undoes: str | None = None,
    label: int = 1,
) -> Review:
    return Review(
        schema="tidegate.review.v1",
        review_id=f"r{number}",
        post_id=post_id,
        reviewer="owl",
        at=f"2026-11-22T12:{number:02}:00.000Z",
        verdict="undo" if undoes else "decide",
        action=action,
        undoes=undoes,
        decision_id=f"policy:{label_of(label, post_id=post_id).label_id}",
    )


def standing(topics: Topics) -> str:
    return str(topics.last_decisions["p0-1"].action)


def read_reviews(deciding: Deciding, topics: Topics, start: int, end: int) -> None:
    topics.deliver(deciding.run([topics.span("reviews", 0, start, end)]).outputs)


def test_a_review_changes_the_decision_and_undo_brings_it_back(policy: Policy) -> None:
    topics = Topics()
    for number in range(150):
        topics.put_label(label_of(number, insult=0.9 if number == 1 else 0.1))
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 150)
    assert standing(topics) == "hide"

    topics.put_review(review(1, action=Action.REMOVE))
    topics.put_review(review(2, action=Action.ALLOW))
    read_reviews(deciding, topics, 0, 2)
    decided = topics.last_decisions["p0-1"]
    assert (decided.action, decided.by, decided.reviewer) == (Action.ALLOW, "review", "owl")
    assert (decided.decision_id, decided.review_id) == ("review:r2", "r2")
    assert decided.post is not None
    assert [match.id for match in decided.rules] == ["insult"], "what it was judged for"

    topics.put_review(review(3, undoes="r2"))
    read_reviews(deciding, topics, 2, 3)
    assert standing(topics) == "remove", "the verdict before"

    # After a restart everything is known that people decided.
    again = deciding_over(topics, policy)
    topics.put_review(review(4, undoes="r1"))
    read_reviews(again, topics, 3, 4)
    back = topics.last_decisions["p0-1"]
    assert (back.action, back.by, back.decision_id) == (Action.HIDE, "policy", "review:r4")


def test_reviews_read_again_give_the_same_decisions(policy: Policy) -> None:
    topics = Topics()
    fill(topics, 5)
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 5)
    topics.put_review(review(1, action=Action.REMOVE))
    topics.put_review(review(2, undoes="r1"))
    read_reviews(deciding, topics, 0, 1)
    read_reviews(deciding, topics, 1, 2)
    before = topics.last_decisions["p0-1"]
    again = deciding_over(topics, policy)
    read_reviews(again, topics, 0, 2)
    assert topics.last_decisions["p0-1"] == before
    assert len({d.decision_id for d in topics.decisions}) == 7


def test_an_edit_is_decided_anew_and_a_label_made_again_is_not(policy: Policy) -> None:
    topics = Topics()
    topics.put_label(label_of(0))
    topics.put_label(label_of(1, post_id="p0-1"))
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 2)
    topics.put_review(review(1, action=Action.REMOVE))
    read_reviews(deciding, topics, 0, 1)

    topics.put_label(label_of(1, post_id="p0-1"))  # the same post, labelled by another model
    run(deciding, topics, 2, 3)
    assert standing(topics) == "remove"

    topics.put_label(label_of(4, post_id="p0-1", insult=0.9))  # another text
    run(deciding, topics, 3, 4)
    edited = topics.last_decisions["p0-1"]
    assert (edited.action, edited.by) == (Action.HIDE, "policy")


def test_a_deleted_post_is_not_brought_back_by_a_late_review(policy: Policy) -> None:
    topics = Topics()
    topics.put_label(label_of(1, post_id="p0-1", insult=0.9))
    topics.put_label(label_of(2, post_id="p0-1", retracted=True))
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 2)
    retracted = topics.last_decisions["p0-1"]
    assert retracted.retracted
    assert (retracted.action, retracted.rules) == (Action.ALLOW, [])
    assert retracted.post is not None
    assert retracted.post.text is None
    topics.put_review(review(1, action=Action.REMOVE))
    read_reviews(deciding, topics, 0, 1)
    assert topics.last_decisions["p0-1"] == retracted


def test_a_verdict_on_a_post_nobody_knows_any_more_is_kept(policy: Policy) -> None:
    topics = Topics()
    fill(topics, 3)
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 3)
    topics.put_review(review(1, "long-gone", action=Action.REMOVE, label=900))
    read_reviews(deciding, topics, 0, 1)
    decided = topics.last_decisions["long-gone"]
    assert (decided.action, decided.post) == (Action.REMOVE, None)


def test_skipping_and_escalating_leave_the_decision(policy: Policy) -> None:
    topics = Topics()
    fill(topics, 3)
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 3)
    skipped = Review(
        schema="tidegate.review.v1",
        review_id="r1",
        post_id="p0-1",
        reviewer="owl",
        at="2026-11-22T12:00:00.000Z",
        verdict="skip",
    )
    topics.put_review(skipped)
    topics.put("reviews", 0, b"{")
    outcome = deciding.run([topics.span("reviews", 0, 0, 2)])
    topics.deliver(outcome.outputs)
    assert len(topics.decisions) == 3
    assert outcome.dead_letters == 1


def test_days_are_those_of_deciding(policy: Policy) -> None:
    """Labels of last week that are decided now count today."""
    topics = Topics()
    topics.put_label(label_of(0, insult=0.9, at_ms=NOON_MS - 7 * 86_400_000))
    run(deciding_over(topics, policy), topics, 0, 1)
    last = decode_quota(topics.records["quotas", 0][-1].value)
    assert (last.day, last.used) == ("2026-11-22", {"insult": 1, "": 1})
