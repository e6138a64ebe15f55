"""What people decided: which verdict stands on a post, and the decision record that says so.

Pure. Invariant: what stands depends on the reviews read so far, in their order, and on nothing
else; reading one again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from stream.outcomes import DECISION_SCHEMA, Action, Decision, Review
from stream.records import rfc3339


def review_decision_id(review_id: str) -> str:
    """The id of the decision that follows from a review."""
    return f"review:{review_id}"


@dataclass(slots=True)
class _Judged:
    """A post that people have judged."""

    #: The label that was judged: a newer one is another text.
    basis: str | None
    decided: list[Review] = field(default_factory=list)


class Verdicts:
    """The reviews of a partition.

    A person's verdict is on what they saw: when the post is edited, the policy decides anew, and
    the verdict stands no more.
    """

    def __init__(self) -> None:
        self._posts: dict[str, _Judged] = {}
        self._known: set[str] = set()
        self._undone: set[str] = set()

    def __len__(self) -> int:
        return len(self._posts)

    def standing(self, post_id: str) -> Review | None:
        """The verdict that stands on a post."""
        judged = self._posts.get(post_id)
        return judged.decided[-1] if judged is not None and judged.decided else None

    def basis(self, post_id: str) -> str | None:
        """The decision that the post's first review was about."""
        judged = self._posts.get(post_id)
        return None if judged is None else judged.basis

    def read(self, review: Review) -> bool:
        """Take note of a review; whether what stands may be another now."""
        if review.verdict not in ("decide", "undo") or review.review_id in self._known:
            return False
        if review.verdict == "undo":
            if review.undoes is None:
                return False
            self._known.add(review.review_id)
            self._undone.add(review.undoes)
            judged = self._posts.get(review.post_id)
            if judged is None:
                return False
            before = len(judged.decided)
            judged.decided = [r for r in judged.decided if r.review_id != review.undoes]
            return len(judged.decided) != before
        return self._read_decided(review)

    def _read_decided(self, review: Review) -> bool:
        if review.action is None or review.review_id in self._undone:
            return False
        self._known.add(review.review_id)
        judged = self._posts.setdefault(review.post_id, _Judged(None))
        if newer(review.decision_id, judged.basis):
            # What was said of an earlier text says nothing of this one.
            judged.basis, judged.decided = review.decision_id, []
        elif place_of(review.decision_id or "") and newer(judged.basis, review.decision_id):
            return False  # and is said by somebody who had not seen this one
        judged.decided.append(review)
        return True

    def standing_after(self, post_id: str, decision_id: str) -> Review | None:
        """The verdict that stands after the policy decided; None: the policy's decision does.

        A decision about a newer label than the one that the person saw ends their verdict.
        """
        judged = self._posts.get(post_id)
        if judged is None or not judged.decided:
            return None
        if newer(decision_id, judged.basis):
            judged.basis, judged.decided = decision_id, []
            return None
        return judged.decided[-1] if decision_id == judged.basis else None


def place_of(decision_id: str) -> tuple[int, int] | None:
    """Partition and offset of the post that a policy's decision is about, as its id tells."""
    head, _, place = decision_id.rpartition("@")
    parts = place.rsplit("/", 2)
    if not head.startswith("policy:") or len(parts) != 3:
        return None
    try:
        return int(parts[1]), int(parts[2])
    except ValueError:
        return None


def newer(decision_id: str | None, than: str | None) -> bool:
    """Whether a policy's decision is about a later state of the post than another."""
    place = None if decision_id is None else place_of(decision_id)
    if place is None:
        return False
    before = None if than is None else place_of(than)
    return before is None or place > before


def decision_by_review(review: Review, basis: Decision | None) -> Decision:
    """The decision of a person, on the grounds that the policy's decision gave.

    Args:
        review: a `decide`.
        basis: the policy's decision on the post; None where it is not to be found any more.
    """
    assert review.action is not None
    changes = {
        "decision_id": review_decision_id(review.review_id),
        "action": review.action,
        "decided_at": review.at,
        "by": "review",
        "review_id": review.review_id,
        "reviewer": review.reviewer,
        "label_offset": None,
        "quota": None,
    }
    if basis is None:
        return Decision(
            schema=DECISION_SCHEMA,
            post_id=review.post_id,
            reason=review.reason,
            **changes,  # type: ignore[arg-type] # typed above
        )
    if review.reason is not None:
        changes["reason"] = review.reason
    elif review.action is Action.ALLOW:
        changes["reason"] = None
    return msgspec.structs.replace(basis, **changes)


def decision_by_undo(undo: Review, basis: Decision | None, now_ms: int) -> Decision:
    """The policy's decision again, after the last review was taken back.

    Without the policy's decision the post is allowed: nobody is against it.
    """
    changes = {
        "decision_id": review_decision_id(undo.review_id),
        "decided_at": undo.at or rfc3339(now_ms),
        "review_id": undo.review_id,
        "label_offset": None,
    }
    if basis is None:
        return Decision(
            schema=DECISION_SCHEMA,
            post_id=undo.post_id,
            action=Action.ALLOW,
            **changes,  # type: ignore[arg-type] # typed above
        )
    return msgspec.structs.replace(basis, **changes)
