"""Posts that show what an alert is about, chosen from labels.

Invariant: the choice depends on the labels given and not on their order; at most one post of an
author, so that one loud person is not the whole story.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stream.aggregates.facts import UnreadableRecordError, label_facts
from stream.aggregates.merge import ALL
from stream.alerts.evaluator import Evidence
from stream.outcomes import AlertExample
from stream.records import Label, decode_label

MOST_EXAMPLES: Final = 5
#: As much of a text as a person reads in a notification.
_MAX_TEXT_CHARS: Final = 280


class Examples:
    """Takes labels, keeps the few best.

    Args:
        evidence: time, group and word that a post must have.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        #: By author (or post, where there is none): rank and example.
        self._best: dict[str, tuple[tuple[float, str], AlertExample]] = {}

    def add(self, value: bytes | None, offset: int) -> None:
        """Look at a record of `labels`."""
        try:
            facts = label_facts(value, offset)
        except UnreadableRecordError:
            return
        wanted, contribution = self._evidence, facts.contribution
        if not wanted.since <= contribution.start < wanted.until or not contribution.groups:
            return
        groups = contribution.groups + contribution.tags
        if wanted.by not in (ALL, "action") and (wanted.by, wanted.group) not in groups:
            return
        if wanted.term is not None and wanted.term not in facts.terms:
            return
        try:
            label = decode_label(value or b"")
        except msgspec.DecodeError:
            return
        toxicity = label.labels.get("toxicity")
        if wanted.toxic and (toxicity is None or toxicity.label == "none"):
            return
        score = toxicity.score if toxicity is not None and wanted.toxic else None
        self._keep(facts.author or facts.post_id, label, score)

    def _keep(self, author: str, label: Label, score: float | None) -> None:
        post = label.post
        text = None if post is None or post.text is None else post.text[:_MAX_TEXT_CHARS]
        example = AlertExample(
            post_id=label.post_id,
            text=text,
            author=post.author_id if post is not None else None,
            score=None if score is None else round(score, 4),
            url=post.url if post is not None else None,
        )
        rank = (-(score or 0.0), label.post_id)
        known = self._best.get(author)
        if known is None or rank < known[0]:
            self._best[author] = (rank, example)
        if len(self._best) > 10 * MOST_EXAMPLES:
            kept = sorted(self._best.items(), key=lambda item: item[1][0])[: 2 * MOST_EXAMPLES]
            self._best = dict(kept)

    def chosen(self) -> list[AlertExample]:
        """The best, best first."""
        ranked = sorted(self._best.values(), key=lambda each: each[0])
        return [example for _, example in ranked[:MOST_EXAMPLES]]
