"""What people decide, on top of the policy: verdicts, undone, read again, and of posts that are gone."""

from __future__ import annotations

import pytest

from stream.decisions.deciding import Deciding
from stream.outcomes import Action, Review
from stream.policy import Policy
from tests.stream.decisions.labels import Topics, deciding_over, fill, label_of, run

pytestmark = pytest.mark.usefixtures("at_once")


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
