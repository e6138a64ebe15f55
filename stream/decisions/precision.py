"""How often people agreed with a rule: counts, and the interval its precision lies in.

A review counts for every rule that matched its post, live or shadow: for the rule when the person
took an action at least as strict as a flag, against it when the person allowed the post.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Final

from stream.outcomes import Action, Decision, Review

#: The normal distribution's 97.5 % quantile: intervals at 95 %.
Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Precision:
    """Of `judged` matches of a rule people upheld `upheld`.

    `low` and `high` are Wilson's score interval at 95 % (E. B. Wilson 1927, "Probable inference,
    the law of succession, and statistical inference"), which holds for few reviews too; None where
    nobody judged.
    """

    rule: str
    judged: int
    upheld: int

    @property
    def value(self) -> float | None:
        """The share of upheld matches."""
        return self.upheld / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Between which precisions the truth lies, most probably."""
        return wilson(self.upheld, self.judged)


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float] | None:
    """Wilson's score interval; None without trials.

    Raises:
        ValueError: more successes than trials, or less than none.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not trials:
        return None
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / scale
    return (
        0.0 if successes == 0 else max(0.0, centre - half),
        1.0 if successes == trials else min(1.0, centre + half),
    )


def standing_reviews(reviews: Iterable[Review]) -> dict[str, Review]:
    """By post, the verdict that stands: the latest `decide` that nobody took back."""
    by_post: dict[str, dict[str, Review]] = {}
    undone: set[str] = set()
    for review in reviews:
        if review.verdict == "undo" and review.undoes is not None:
            undone.add(review.undoes)
        elif review.verdict == "decide" and review.action is not None:
            by_post.setdefault(review.post_id, {})[review.review_id] = review
    standing = {}
    for post_id, decided in by_post.items():
        kept = [review for review in decided.values() if review.review_id not in undone]
        if kept:
            standing[post_id] = kept[-1]
    return standing


def precision_of(decisions: Iterable[Decision], reviews: Iterable[Review]) -> dict[str, Precision]:
    """By rule; `decisions` are the policy's, one per post at most counts: its last."""
    standing = standing_reviews(reviews)
    judged: dict[str, tuple[list[str], Action]] = {}
    for decision in decisions:
        review = standing.get(decision.post_id)
        if review is not None and review.action is not None:
            judged[decision.post_id] = ([match.id for match in decision.rules], review.action)
    counts: dict[str, list[int]] = {}
    for rules, action in judged.values():
        for rule in rules:
            count = counts.setdefault(rule, [0, 0])
            count[0] += 1
            count[1] += action is not Action.ALLOW
    return {rule: Precision(rule, *count) for rule, count in sorted(counts.items())}
