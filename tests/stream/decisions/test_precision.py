"""Wilson's interval against published values, and whose verdict counts for a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decisions.precision import precision_of, standing_reviews, wilson
from stream.outcomes import Action, Decision, Review, RuleMatch


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # R. G. Newcombe (1998), "Two-sided confidence intervals for the single proportion", method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(case: tuple[int, int]) -> None:
    successes, trials = case
    interval = wilson(successes, trials)
    assert interval is not None
    low, high = interval
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


def test_wilson_knows_nothing_without_trials() -> None:
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def decision(post_id: str, *rules: str) -> Decision:
    return Decision(
        schema="tidegate.decision.v1",
        decision_id=f"policy:{post_id}",
        post_id=post_id,
        action=Action.FLAG,
        decided_at="2026-11-22T12:00:00.000Z",
        rules=[
            RuleMatch(
                id=rule, version="1", mode="live", action=Action.FLAG, severity="low", reason="spam"
            )
            for rule in rules
        ],
    )


def review(
    number: int, post_id: str, action: Action | None = None, undoes: str | None = None
) -> Review:
    return Review(
        schema="tidegate.review.v1",
        review_id=f"r{number}",
        post_id=post_id,
        reviewer="owl",
        at="2026-11-22T12:00:00.000Z",
        verdict="undo" if undoes else "decide",
        action=action,
        undoes=undoes,
    )


def test_a_rule_is_upheld_where_a_person_acts() -> None:
    decisions = [decision("a", "spam", "links"), decision("b", "spam"), decision("c", "spam")]
    reviews = [
        review(1, "a", Action.HIDE),
        review(2, "b", Action.HIDE),
        review(3, "b", Action.ALLOW),  # the same person, or another, on second thoughts
        review(4, "c", Action.ALLOW),
        review(5, "c", undoes="r4"),
        review(6, "elsewhere", Action.HIDE),
    ]
    found = precision_of(decisions, reviews)
    assert (found["spam"].judged, found["spam"].upheld) == (2, 1)
    assert (found["links"].judged, found["links"].value) == (1, 1.0)
    assert set(standing_reviews(reviews)) == {"a", "b", "elsewhere"}
