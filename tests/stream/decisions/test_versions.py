"""Posts that are edited and deleted, and people's words on them, late or read twice."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.decisions.deciding import Deciding
from stream.outcomes import Action, Decision, Review
from stream.policy import Policy
from stream.records import Label
from tests.stream.decisions.labels import Topics, deciding_over, label_of, policy_of, run

pytestmark = pytest.mark.usefixtures("at_once")


def edit_of(number: int, post_id: str, *, insult: float = 0.1, author: str = "ann") -> Label:
    label = label_of(number, post_id=post_id, insult=insult, author=author)
    assert label.post is not None
    return msgspec.structs.replace(label, post=msgspec.structs.replace(label.post, op="update"))


def word(number: int, about: Label, action: Action | None, undoes: str | None = None) -> Review:
    return Review(
        schema="tidegate.review.v1",
        review_id=f"r{number}",
        post_id=about.post_id,
        reviewer="owl",
        at="2026-11-22T12:00:00.000Z",
        verdict="undo" if undoes else "decide",
        action=action,
        undoes=undoes,
        decision_id=f"policy:{about.label_id}",
    )


def say(deciding: Deciding, topics: Topics, *reviews: Review) -> None:
    for review in reviews:
        at = topics.put_review(review)
        topics.deliver(deciding.run([topics.span("reviews", 0, at, at + 1)]).outputs)


def story_of(topics: Topics, post_id: str) -> list[str]:
    return [d.decision_id for d in topics.decisions if d.post_id == post_id]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("undone", [False, True])
def test_a_word_on_an_earlier_text_is_none_on_the_edited_one(
    policy: Policy, *, restarted: bool, undone: bool
) -> None:
    topics = Topics()
    first, edited = label_of(0, insult=0.9), edit_of(1, "p0-0")
    topics.put_label(first)
    topics.put_label(edited)
    deciding = deciding_over(topics, policy)
    run(deciding, topics, 0, 1)
    if undone:
        say(deciding, topics, word(1, first, Action.REMOVE))
    run(deciding, topics, 1, 2)
    before = story_of(topics, "p0-0")
    deciding = deciding_over(topics, policy) if restarted else deciding
    late = word(2, first, None, "r1") if undone else word(2, first, Action.REMOVE)
    say(deciding, topics, late)
    assert story_of(topics, "p0-0") == before
    # Nor when the new text is labelled by another model.
    topics.put_label(edited)
    run(deciding, topics, 2, 3)
    assert story_of(topics, "p0-0")[len(before) :] == [f"policy:{edited.label_id}"]
    # One on the new text is.
    say(deciding, topics, word(3, edited, Action.HIDE))
    assert story_of(topics, "p0-0")[-1] == "review:r3"


def test_a_deleted_post_stays_deleted_after_a_restart(policy: Policy) -> None:
    topics = Topics()
    first, gone = label_of(0, insult=0.9), label_of(1, post_id="p0-0", retracted=True)
    topics.put_label(first)
    topics.put_label(gone)
    run(deciding_over(topics, policy), topics, 0, 2)
    say(deciding_over(topics, policy), topics, word(1, first, Action.REMOVE))
    again = deciding_over(topics, policy)
    say(again, topics, word(2, gone, Action.HIDE), word(3, first, None, "r1"))
    run(again, topics, 0, 2)
    assert story_of(topics, "p0-0") == [f"policy:{x.label_id}" for x in (first, gone)]


def test_what_was_allowed_since_is_no_action_after_a_restart(tmp_path: Path) -> None:
    """An edit that is harmless; and a match of an `allow` rule is no decision to allow."""
    rules = """
rules:
  - {id: insult, when: toxicity.insult >= 0.5, action: hide, severity: high, reason: harassment-other}
  - {id: known, when: 'author.id == "ann"', action: allow, severity: info, reason: other}
  - {id: again, when: 'actions(author, "1h") >= 2', action: flag, severity: low, reason: other}
"""
    policy, topics = policy_of(tmp_path, rules), Topics()
    for label in (
        label_of(0, insult=0.9),
        label_of(1, insult=0.9),
        edit_of(2, "p0-1"),
        label_of(3),
        label_of(4, insult=0.9),
        label_of(5),
    ):
        topics.put_label(label)
    run(deciding_over(topics, policy), topics, 0, 3)
    again = deciding_over(topics, policy)
    run(again, topics, 3, 5)
    run(deciding_over(topics, policy), topics, 5, 6)
    assert [d.action for d in topics.decisions][3:] == ["allow", "hide", "flag"]


def test_an_edit_is_no_further_post(policy: Policy) -> None:
    topics = Topics()
    for number in range(4):
        topics.put_label(label_of(number))
    for number in range(4, 9):
        topics.put_label(edit_of(number, f"p0-{number % 2}"))
    topics.put_label(label_of(9))
    run(deciding_over(topics, policy), topics, 0, 4)
    # Whoever begins at an edit has not seen the post.
    run(deciding_over(topics, policy), topics, 4, 9)
    assert {d.action for d in topics.decisions} == {Action.ALLOW}
    run(deciding_over(topics, policy), topics, 9, 10)
    assert [match.id for match in topics.decisions[-1].rules] == ["chatty"], "five posts"


# -- killed anywhere


def _story(chance: random.Random) -> tuple[list[Label], list[tuple[int, Review]]]:
    """Labels, many of them edits and deletions, and what people say after so many of them."""
    labels: list[Label] = []
    for number in range(50):
        author, insult = f"a{number % 3}", chance.choice([0.1, 0.1, 0.9])
        kind = chance.choice(["post", "post", "post", "edit", "delete"]) if number > 4 else "post"
        if kind == "post":
            labels.append(label_of(number, author=author, insult=insult))
            continue
        before = chance.choice(labels)
        who = str(before.post.author) if before.post else author
        if kind == "edit":
            labels.append(edit_of(number, before.post_id, insult=insult, author=who))
        else:
            gone = label_of(number, post_id=before.post_id, author=who, retracted=True)
            labels.append(gone)
    reviews: list[tuple[int, Review]] = []
    for number, after in enumerate(sorted(chance.choices(range(5, 50), k=12))):
        decided = _decided(reviews, labels)
        if decided and chance.random() < 0.35:
            review, label = chance.choice(decided)
            reviews.append((after, word(number, label, None, review.review_id)))
        else:
            label = chance.choice(labels[:after])
            action = chance.choice([Action.ALLOW, Action.HIDE, Action.REMOVE])
            reviews.append((after, word(number, label, action)))
    return labels, reviews


def _decided(reviews: list[tuple[int, Review]], labels: list[Label]) -> list[tuple[Review, Label]]:
    by_decision = {f"policy:{label.label_id}": label for label in labels}
    return [
        (review, by_decision[review.decision_id or ""])
        for _, review in reviews
        if review.verdict == "decide"
    ]


def _play(
    labels: list[Label],
    reviews: list[tuple[int, Review]],
    policy: Policy,
    kills: random.Random | None,
) -> Topics:
    """Everything in its order; with `kills`, some of it again, and some not delivered at first."""
    topics = Topics()
    for label in labels:
        topics.put_label(label)
    deciding, at, said = deciding_over(topics, policy), 0, 0
    for until, review in [*reviews, (len(labels), None)]:
        while at < until:
            end = min(at + 7, until)
            outputs = deciding.run([topics.span("labels", 0, at, end)]).outputs
            if kills is None or kills.random() > 0.2:
                topics.deliver(outputs)
                at = end
                continue
            decisions = [output for output in outputs if output.topic == "decisions"]
            topics.deliver(decisions[: kills.randint(0, len(decisions))])
            deciding, at = deciding_over(topics, policy), max(0, at - kills.randrange(25))
        if review is None:
            break
        topics.put_review(review)
        topics.deliver(deciding.run([topics.span("reviews", 0, said, said + 1)]).outputs)
        said += 1
        if kills is not None and kills.random() < 0.2:
            deciding, at = deciding_over(topics, policy), max(0, at - kills.randrange(25))
            again = topics.span("reviews", 0, max(0, said - 2), said)
            topics.deliver(deciding.run([again]).outputs)
    return topics


def _outcome(decision: Decision) -> tuple[object, ...]:
    rules = [(match.id, match.mode) for match in decision.rules]
    return decision.action, decision.by, decision.quota, decision.retracted, rules


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 100_000), kills=st.integers(0, 100_000))
def test_a_kill_anywhere_changes_nothing_that_is_read(
    seed: int, kills: int, policy: Policy
) -> None:
    labels, reviews = _story(random.Random(seed))
    undisturbed = _play(labels, reviews, policy, None)
    killed = _play(labels, reviews, policy, random.Random(kills))
    by_policy = [d for d in killed.decisions if d.label_offset is not None]
    assert len(by_policy) == len(labels), "one for each label"
    assert {d.decision_id: _outcome(d) for d in by_policy} == {
        d.decision_id: _outcome(d) for d in undisturbed.decisions if d.label_offset is not None
    }
    assert {post: _outcome(d) for post, d in killed.last_decisions.items()} == {
        post: _outcome(d) for post, d in undisturbed.last_decisions.items()
    }
