"""What holds for every post: thresholds, modes, order."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.policy import Policy, Subject
from tests.stream.policy.records import HEADS, label, policy, rule, rules

SCORES = st.dictionaries(st.sampled_from(HEADS), st.floats(0, 1).map(lambda x: round(x, 6)))
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["you muppet", "m u p p e t", "see https://bit.ly/x", "LOUD AND CLEAR", ""]),
)
SUBJECTS = st.builds(
    lambda text, scores, mood, unsupported, tags: Subject.of_label(
        label(text, toxicity=scores, sentiment=mood, unsupported=unsupported, tags=tags)
    ),
    TEXTS,
    SCORES,
    st.sampled_from(["negative", "neutral", "positive"]),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=3),
)
LISTS = "lists: {bad: {words: [muppet]}, short: {domains: [bit.ly]}}\n"
CONDITIONS = (
    "toxicity.toxic >= 0.5",
    "toxicity.insult >= 0.2 && !toxicity.unsupported",
    'words("bad") || toxicity.threat > 0.7',
    'links_to("short") && sentiment.label != "positive"',
    'regex("[A-Z]{3}")',
    'regex("b")',
    "post.capitals > 0.5",
    'post.tags.exists(t, t == "a")',
    'post.tags[0] == "a"',
    "author.followers > 1",
    'count(tag, "5m") >= 1',
    "post.chars > 3 ? toxicity.obscene > 0.3 : sentiment.negative > 0.5",
    'post.meta.x == "y" || toxicity.toxic > 0.9',
)


def made(text: str) -> Policy:
    with tempfile.TemporaryDirectory() as folder:
        return policy(Path(folder), text)


def pack(order: list[int], **fields: str) -> Policy:
    actions = ("flag", "review", "limit", "hide")
    return made(
        LISTS
        + rules(
            *(
                rule(CONDITIONS[n], name=f"r{n}", action=actions[n % 4], priority=n % 3, **fields)
                for n in order
            )
        )
    )


ORDER = list(range(len(CONDITIONS)))
LIVE = pack(ORDER)
SHADOW = pack(ORDER, mode="shadow")
SHUFFLED = [pack(random.Random(seed).sample(ORDER, len(ORDER))) for seed in range(3)]
ALONE = [pack([n]) for n in ORDER]
STEPS = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0]
LADDER = made(rules(*(rule(f"toxicity.toxic >= {step}", name=f"s{n}") for n, step in enumerate(STEPS))))  # fmt: skip


@given(SUBJECTS)
def test_a_stricter_threshold_never_matches_more(subject: Subject) -> None:
    matched = {match.id for match in LADDER.evaluate(subject).matches}
    score = subject.labels["toxicity"].scores["toxic"]
    assert matched == {f"s{n}" for n, step in enumerate(STEPS) if score >= step}
    steps = [f"s{n}" in matched for n in range(len(STEPS))]
    assert steps == sorted(steps, reverse=True)


@given(SUBJECTS)
def test_shadow_equals_live_for_the_same_rules(subject: Subject) -> None:
    live, shadow = LIVE.evaluate(subject), SHADOW.evaluate(subject)
    assert shadow.action == "allow"
    assert shadow.live == ()
    as_shadow = [(m.id, m.version, m.score, m.spans) for m in live.matches]
    assert as_shadow == [(m.id, m.version, m.score, m.spans) for m in shadow.matches]
    assert live.failed == shadow.failed


@given(SUBJECTS)
def test_the_order_of_rules_changes_nothing(subject: Subject) -> None:
    verdict = LIVE.evaluate(subject)
    for other in SHUFFLED:
        assert other.evaluate(subject) == verdict
        assert other.version == LIVE.version


@given(SUBJECTS)
def test_a_rule_among_others_is_as_alone(subject: Subject) -> None:
    """Groups of rules are asked by one call first; that must never show."""
    together = LIVE.evaluate(subject)
    alone = [each.evaluate(subject) for each in ALONE]
    assert {m.id for m in together.matches} == {m.id for v in alone for m in v.matches}
    assert set(together.failed) == {f for v in alone for f in v.failed}
    strictest = max(v.action.strictness for v in alone)
    assert together.action.strictness == strictest


@given(st.lists(SUBJECTS, min_size=2, max_size=6))
@settings(max_examples=30)
def test_the_order_of_posts_changes_nothing(subjects: list[Subject]) -> None:
    forth = [LIVE.evaluate(subject) for subject in subjects]
    back = [LIVE.evaluate(subject) for subject in reversed(subjects)]
    assert forth == back[::-1]


@given(SUBJECTS)
def test_what_is_live_decides(subject: Subject) -> None:
    verdict = LIVE.evaluate(subject)
    if verdict.live:
        strictest = max(match.action.strictness for match in verdict.live)
        assert verdict.action.strictness == strictest
        decisive = next(match for match in verdict.live if match.id == verdict.decisive)
        assert (decisive.action, decisive.severity, decisive.reason) == (
            verdict.action,
            verdict.severity,
            verdict.reason,
        )
    else:
        assert (verdict.action, verdict.decisive, verdict.reason) == ("allow", None, None)
