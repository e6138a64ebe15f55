"""What each post counts for, kept for as long as it may have to be taken back.

The bound is `most` posts and `kept_s` seconds of event time, whichever comes first; posts leave
in the order in which they came. Invariant: nothing is counted twice for having been forgotten:
`may_have_been_forgotten` is true of every record that was counted once and is not known any more.

Changes are stored in segments, one for each checkpoint, so that a thousand posts are one record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from stream.aggregates.facts import Contribution, Group

#: Posts in one stored record: below the largest that a broker takes, however long ids and tags are.
_POSTS_OF_A_PART: Final = 400


class _StoredPost(msgspec.Struct, array_like=True, gc=False):
    post_id: str
    version: tuple[int, int, int]
    start: int
    mark: int
    groups: int
    tags: list[str]
    action: str


class _StoredPart(msgspec.Struct, array_like=True, gc=False):
    """Some posts of a segment; groups are numbered because posts share them."""

    groups: list[list[Group]]
    posts: list[_StoredPost]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_StoredPart).decode


class _Segment(NamedTuple):
    number: int
    post_ids: list[str]
    newest: int


class Posts:
    """Contributions by post id.

    Args:
        most: how many are kept, at most.
        kept_s: how long, in seconds of event time.
    """

    def __init__(self, most: int, kept_s: int) -> None:
        self._most = most
        self._kept_s = kept_s
        self._known: dict[str, tuple[int, Contribution]] = {}
        self._segments: deque[_Segment] = deque()
        self._held = 0
        self._changed: dict[str, Contribution] = {}
        #: The number of the segment that is being written.
        self.number = 0
        #: The highest offset and the newest window of what was forgotten.
        self.floor = (-1, -1)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, post_id: str) -> Contribution | None:
        """What the post counts for now; None: it is not known."""
        known = self._known.get(post_id)
        return None if known is None else known[1]

    def may_have_been_forgotten(self, contribution: Contribution) -> bool:
        """Whether a post that is not known may have been counted: ask before `put`."""
        _, offset, _ = contribution.version
        return offset <= self.floor[0] and contribution.start <= self.floor[1]

    def put(self, post_id: str, contribution: Contribution) -> None:
        """From now on the post counts for this."""
        self._known[post_id] = (self.number, contribution)
        self._changed[post_id] = contribution

    def close_segment(self) -> list[bytes]:
        """End the segment; the stored form of what changed in it, at least one part."""
        changed = self._changed
        items = list(changed.items())
        parts = [
            _stored(items[at : at + _POSTS_OF_A_PART])
            for at in range(0, max(1, len(items)), _POSTS_OF_A_PART)
        ]
        self._append(self.number, changed)
        self._changed = {}
        self.number += 1
        return parts

    def restore_segment(self, number: int, parts: Iterable[bytes]) -> None:
        """Take in a stored segment; in the order of their numbers."""
        changed: dict[str, Contribution] = {}
        for part in parts:
            changed.update(_loaded(part))
        for post_id, contribution in changed.items():
            self._known[post_id] = (number, contribution)
        self._append(number, changed)
        self.number = number + 1

    def _append(self, number: int, changed: dict[str, Contribution]) -> None:
        newest = max((c.start for c in changed.values()), default=0)
        self._segments.append(_Segment(number, list(changed), newest))
        self._held += len(changed)

    def trim(self, watermark: int) -> list[int]:
        """Forget what is beyond the bounds; the numbers of the segments that are gone.

        The newest segment stays, because the books' state is stored with it.
        """
        gone = []
        while len(self._segments) > 1:
            first = self._segments[0]
            if self._held <= self._most and first.newest + self._kept_s > watermark:
                break
            self._segments.popleft()
            self._held -= len(first.post_ids)
            gone.append(first.number)
            for post_id in first.post_ids:
                known = self._known.get(post_id)
                if known is not None and known[0] == first.number:
                    _, offset, _ = known[1].version
                    self.floor = (max(self.floor[0], offset), max(self.floor[1], known[1].start))
                    del self._known[post_id]
        return gone


def _stored(items: list[tuple[str, Contribution]]) -> bytes:
    numbers: dict[tuple[Group, ...], int] = {}
    posts = [
        _StoredPost(
            post_id,
            c.version,
            c.start,
            c.mark,
            numbers.setdefault(c.groups, len(numbers)),
            [tag for _, tag in c.tags],
            c.action,
        )
        for post_id, c in items
    ]
    return _encode(_StoredPart([list(groups) for groups in numbers], posts))


def _loaded(stored: bytes) -> dict[str, Contribution]:
    part = _decode(stored)
    groups = [tuple(some) for some in part.groups]
    return {
        post.post_id: Contribution(
            post.version,
            post.start,
            post.mark,
            groups[post.groups],
            tuple([("tag", tag) for tag in post.tags]),
            post.action,
        )
        for post in part.posts
    }
