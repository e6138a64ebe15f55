"""Quotas: what trips a rule into shadow, who is told, and when it acts again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stream.decisions import breakers
from stream.decisions.quotas import Quotas
from stream.outcomes import QUOTA_SCHEMA, Action, Quota, decode_quota
from stream.policy import Policy
from stream.records import rfc3339
from tests.stream.decisions.labels import (
    NOON_MS,
    RULES,
    GivenPolicy,
    Topics,
    deciding_over,
    label_of,
    policy_of,
    run,
)

pytestmark = pytest.mark.usefixtures("at_once")


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


def test_days_are_those_of_deciding(policy: Policy) -> None:
    """Labels of last week that are decided now count today."""
    topics = Topics()
    topics.put_label(label_of(0, insult=0.9, at_ms=NOON_MS - 7 * 86_400_000))
    run(deciding_over(topics, policy), topics, 0, 1)
    last = decode_quota(topics.records["quotas", 0][-1].value)
    assert (last.day, last.used) == ("2026-11-22", {"insult": 1, "": 1})


# -- quotas that changed while nobody was there


def insults(topics: Topics, start: int, end: int, partition: int = 0) -> None:
    for number in range(start, end):
        author = f"{partition}-{number}"
        topics.put_label(label_of(number, partition=partition, author=author, insult=0.9))


def with_quota(folder: Path, quota: str) -> Policy:
    return policy_of(folder, RULES.replace(", quota: 5}", quota))


def told(topics: Topics) -> list[tuple[str, str]]:
    return [(alert.alert_id.removeprefix("quota:insult:"), alert.state) for alert in topics.alerts]


def test_a_quota_raised_while_no_worker_ran_counts_as_raised(
    policy: Policy, tmp_path: Path
) -> None:
    topics = Topics()
    insults(topics, 0, 9)
    run(deciding_over(topics, policy), topics, 0, 6)
    raised = with_quota(tmp_path, ", quota: 7}")
    run(deciding_over(topics, raised), topics, 6, 9)
    assert [d.action for d in topics.decisions] == ["hide"] * 5 + ["allow"] + ["hide"] * 2 + [
        "allow"
    ]
    episodes = [
        ("2026-11-22", "firing"),
        ("2026-11-22", "resolved"),
        ("2026-11-22:2", "firing"),
    ]
    assert told(topics) == episodes
    # Started once more, what the last quota tripped stays tripped.
    insults(topics, 9, 10)
    again = deciding_over(topics, raised)
    topics.deliver(again.tick([0], 1))
    run(again, topics, 9, 10)
    assert topics.decisions[-1].quota == "insult"
    assert told(topics) == episodes


@pytest.mark.parametrize(("quota", "why"), [(", quota: 6}", "raised"), ("}", "lifted")])
def test_a_raised_quota_is_open_before_a_label_comes(
    quota: str, why: str, policy: Policy, tmp_path: Path
) -> None:
    topics = Topics()
    insults(topics, 0, 6)
    run(deciding_over(topics, policy), topics, 0, 6)
    other = with_quota(tmp_path, quota)
    for _ in range(2):
        deciding = deciding_over(topics, other)
        topics.deliver(deciding.tick([0], 1))
        topics.deliver(deciding.tick([0], 1))
    assert told(topics) == [("2026-11-22", "firing"), ("2026-11-22", "resolved")]
    resolved = topics.alerts[-1]
    assert resolved.summary == f"quota of the rule `insult` is open again: it was {why}"
    assert resolved.resolved_at == rfc3339(NOON_MS)


def test_a_raised_quota_that_all_partitions_have_used_stays_tripped(
    policy: Policy, tmp_path: Path
) -> None:
    """Two workers overshot it: five and four."""
    topics = Topics()
    for partition, count in ((0, 5), (1, 4)):
        insults(topics, 0, count, partition)
        run(deciding_over(topics, policy), topics, 0, count, partition)
    for number, limit in ((5, 8), (6, 9), (7, 11)):
        insults(topics, number, number + 1)
        raised = with_quota(tmp_path, f", quota: {limit}}}")
        run(deciding_over(topics, raised), topics, number, number + 1)
    last = [d for d in topics.decisions if d.origin is not None and d.origin.partition == 0][5:]
    assert [d.quota for d in last] == ["insult", "insult", None]
    assert told(topics) == [("2026-11-22", "firing"), ("2026-11-22", "resolved")]


def test_a_lowered_quota_trips_before_another_post_is_acted_on(
    policy: Policy, tmp_path: Path
) -> None:
    topics = Topics()
    insults(topics, 0, 4)
    run(deciding_over(topics, policy), topics, 0, 3)
    run(deciding_over(topics, with_quota(tmp_path, ", quota: 3}")), topics, 3, 4)
    assert [d.quota for d in topics.decisions] == [None, None, None, "insult"]
    assert told(topics) == [("2026-11-22", "firing")]


def test_a_quota_of_none_never_acts(tmp_path: Path) -> None:
    topics = Topics()
    insults(topics, 0, 2)
    run(deciding_over(topics, with_quota(tmp_path, ", quota: 0}")), topics, 0, 2)
    assert [d.quota for d in topics.decisions] == ["insult", "insult"]
    assert told(topics) == [("2026-11-22", "firing")]


def test_what_quiet_partitions_have_used_counts(policy: Policy) -> None:
    """After a restart a partition is counted before its first label."""
    topics = Topics()
    insults(topics, 0, 3, 1)
    run(deciding_over(topics, policy), topics, 0, 3, 1)
    insults(topics, 0, 4, 0)
    again = deciding_over(topics, policy)
    topics.deliver(again.tick([0, 1], 2))
    run(again, topics, 0, 4, 0)
    decided = [d for d in topics.decisions if d.origin is not None and d.origin.partition == 0]
    assert [d.quota for d in decided] == [None, None, "insult", "insult"]
    # Counted once when it speaks again.
    insults(topics, 3, 4, 1)
    run(again, topics, 3, 4, 1)
    last = decode_quota(topics.records["quotas", 1][-1].value)
    assert last.used == {"insult": 3, "": 3}
    assert told(topics) == [("2026-11-22", "firing")]


def test_what_was_decided_after_the_last_count_counts(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill within the seconds before a count is written, of a partition that is quiet then."""
    topics = Topics()
    insults(topics, 0, 4, 1)
    monkeypatch.setattr(breakers, "_UNDELIVERED_S", 1000)
    monkeypatch.setattr(breakers, "_UNDELIVERED_BATCHES", 1)
    first = deciding_over(topics, policy)
    run(first, topics, 0, 1, 1)
    run(first, topics, 1, 2, 1)
    run(first, topics, 2, 4, 1)
    assert decode_quota(topics.records["quotas", 1][-1].value).used["insult"] < 4
    insults(topics, 0, 2, 0)
    again = deciding_over(topics, policy)
    topics.deliver(again.tick([0, 1], 2))
    run(again, topics, 0, 2, 0)
    decided = [d for d in topics.decisions if d.origin is not None and d.origin.partition == 0]
    assert [d.quota for d in decided] == [None, "insult"]
    assert told(topics) == [("2026-11-22", "firing")]
