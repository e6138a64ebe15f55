"""Posts of which there is more than one version: edited, or deleted.

Invariant: what is known of a post only moves on: neither a label that is read again nor a late word
of a person brings an earlier text back, or a post that is gone. Of posts that were never changed
nothing is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from stream.decisions.reviews import Verdicts, newer, place_of
from stream.outcomes import Review
from stream.policy.verdict import decision_id
from stream.records import Label

_MOST: Final = 100_000


class _Op(Protocol):
    @property
    def op(self) -> str: ...


class Decided(Protocol):
    """What is looked at in a policy's decision."""

    @property
    def decision_id(self) -> str: ...  # noqa: D102
    @property
    def post_id(self) -> str: ...  # noqa: D102
    @property
    def label_offset(self) -> int | None: ...  # noqa: D102
    @property
    def retracted(self) -> bool: ...  # noqa: D102
    @property
    def post(self) -> _Op | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Newest:
    """The policy's decision on the newest version of a post, and whether it was deleted by that."""

    decision_id: str
    gone: bool


class Versions:
    """The newest version of each post that was edited or deleted; of the last 100,000 of them."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, Newest] = OrderedDict()

    def label(self, label: Label) -> None:
        """Note a label, before or after it is decided on."""
        edited = label.post is not None and label.post.op == "update"
        self._note(
            label.post_id, Newest(decision_id(label.label_id), label.retracted), edited=edited
        )

    def decided(self, decisions: Iterable[Decided]) -> None:
        """Note what was decided before a start."""
        for each in decisions:
            if each.label_offset is not None:
                edited = each.post is not None and each.post.op == "update"
                self._note(each.post_id, Newest(each.decision_id, each.retracted), edited=edited)

    def passed(self, post_id: str, decision_id: str) -> bool:
        """Whether a policy's decision is not about what the post is now."""
        newest = self._newest.get(post_id)
        return newest is not None and (newest.gone or newer(newest.decision_id, decision_id))

    def is_late(self, review: Review, verdicts: Verdicts) -> bool:
        """Whether a review is about an earlier text, read late or once more, or a post that is gone."""
        newest = self._newest.get(review.post_id)
        if newest is None:
            return False
        seen = verdicts.basis(review.post_id)
        if review.decision_id is not None and place_of(review.decision_id) is not None:
            seen = review.decision_id
        verdicts.standing_after(review.post_id, newest.decision_id)
        return newest.gone or (seen is not None and newer(newest.decision_id, seen))

    def _note(self, post_id: str, newest: Newest, *, edited: bool) -> None:
        known = self._newest.get(post_id)
        if known is None and not edited and not newest.gone:
            return
        if known is not None and newer(known.decision_id, newest.decision_id):
            return
        self._newest[post_id] = newest
        self._newest.move_to_end(post_id)
        if len(self._newest) > _MOST:
            self._newest.popitem(last=False)
