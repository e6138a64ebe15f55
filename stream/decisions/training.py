"""From people's verdicts to rows that `tidegate models train` takes: pure.

A correction that a person gave is taken as it is. Without one, an action says something of
toxicity only: who allowed a post found nothing in it, who acted on it upheld what the model said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stream.outcomes import Action, Decision, Review

#: The task whose posts carry several labels at once; the others have one.
TOXICITY: Final = "toxicity"
_NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """A text with the labels a person gave it, or let stand."""

    post_id: str
    review_id: str
    text: str
    lang: str | None
    labels: dict[str, list[str]]
    #: Whether the person named the labels, or only acted.
    corrected: bool

    def record(self) -> dict[str, Any]:
        """As a line of JSONL: one label as a string, several as a list."""
        labels = {
            task: names if task == TOXICITY or len(names) != 1 else names[0]
            for task, names in self.labels.items()
        }
        lang = {} if self.lang is None else {"lang": self.lang}
        return {
            "id": self.post_id,
            "text": self.text,
            **lang,
            "labels": labels,
            "source": "review" if self.corrected else "review-action",
        }


def row_of(review: Review, decision: Decision, *, corrected_only: bool = False) -> Row | None:
    """The row of a standing review; None where it says nothing, or the text is gone."""
    post = decision.post
    if post is None or not post.text or decision.retracted:
        return None
    labels = {task: list(names) for task, names in review.labels.items()}
    corrected = bool(labels)
    if TOXICITY in labels:
        labels[TOXICITY] = [name for name in labels[TOXICITY] if name != _NONE]
    elif not corrected_only:
        found = _implied(review, decision)
        if found is not None:
            labels[TOXICITY] = found
    if not labels:
        return None
    lang = decision.language or post.lang or next(iter(post.langs), None)
    return Row(review.post_id, review.review_id, post.text, lang, labels, corrected)


def _implied(review: Review, decision: Decision) -> list[str] | None:
    if review.action is Action.ALLOW:
        return []
    model = decision.labels.get(TOXICITY)
    if model is None or model == _NONE or TOXICITY in decision.unsupported:
        return None  # it was acted on for another reason than the model gave
    return [model]


def rows_of(
    standing: Mapping[str, Review], decisions: Iterable[Decision], *, corrected_only: bool = False
) -> Iterator[Row]:
    """The rows of the reviews whose posts are among the decisions, each once.

    Args:
        standing: by post, the review that stands.
        decisions: any; the first with the text of a post is taken.
        corrected_only: only reviews in which labels were named.
    """
    left = dict(standing)
    for decision in decisions:
        review = left.get(decision.post_id)
        if review is None or not _same_text(review, decision):
            continue
        row = row_of(review, decision, corrected_only=corrected_only)
        if row is not None:
            del left[decision.post_id]
            yield row


def _same_text(review: Review, decision: Decision) -> bool:
    """Whether the decision is about the text that the person saw."""
    if review.decision_id is None or not review.decision_id.startswith("policy:"):
        return True
    return decision.decision_id == review.decision_id or (
        decision.label_id is not None and review.decision_id == f"policy:{decision.label_id}"
    )
