"""What an alert says when it is over: only what is true of the numbers beside it."""

from __future__ import annotations

from stream.alerts.reading import Reading
from stream.alerts.rules import Measure, ThresholdRule
from stream.alerts.words import resolved

RULE = ThresholdRule(
    id="toxic-tag",
    version="1",
    by="tag",
    measure=Measure.TOXICITY_RATE,
    over=0.2,
    resolve_at=0.15,
    min_authors=30,
)


def _said(rule: ThresholdRule, observed: float, posts: int = 9, authors: int | None = None) -> str:
    reading = Reading(
        breach=False, clear=True, observed=observed, threshold=0.2, posts=posts, authors=authors
    )
    return resolved(rule, "halden", reading, begun=0, tick=50, worst=0.566)


def test_a_rate_that_fell_is_back_to_normal() -> None:
    assert _said(RULE, 0.111) == (
        "back to normal in tag halden after 50 s: toxicity rate 11.1 %, 56.6 % at its worst"
    )


def test_a_rate_of_too_few_is_not_called_normal() -> None:
    assert _said(RULE, 0.444, posts=27, authors=23) == (
        "hardly anybody left in tag halden after 50 s: toxicity rate 44.4 % of 27 posts by "
        "23 authors, 56.6 % at its worst"
    )
    assert "of 27 posts, " in _said(RULE, 0.444, posts=27)


def test_a_bound_from_below_is_the_other_way_round() -> None:
    rule = ThresholdRule(
        id="quiet", version="1", measure=Measure.POSTS, under=10.0, resolve_at=12.0
    )
    assert _said(rule, 15).startswith("back to normal")
    assert _said(rule, 5).startswith("hardly anybody left")
