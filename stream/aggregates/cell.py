"""A window and group as one worker counts it: numbers and sketches, and their stored form.

Invariant: a stored cell begins with the offset up to which its topic is in it (`revision`), so
that a record that is read again is recognised as counted by each cell for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import chain
from typing import Final

import msgspec

from stream.aggregates.facts import Facts, Mark, Of
from stream.aggregates.merge import WindowKey
from stream.aggregates.sketches import Authors, Items
from stream.outcomes import METRIC_SCHEMA, Metric

#: Sizes of frequent items as powers of two, by width: of everything, and of one group of it.
_LG_OF_ALL: Final = {10: 10, 60: 11, 3600: 12}
_LG_OF_GROUP: Final = {10: 8, 60: 9, 3600: 10}
_REVISION_BYTES: Final = 8


class Sum:
    """What a batch adds to one group and step of 10 s, and what it takes back."""

    __slots__ = ("added", "back")

    def __init__(self) -> None:
        self.added: list[Facts] = []
        #: Mark and action of each contribution that is taken back.
        self.back: list[tuple[int, str]] = []


class Delta:
    """A `Sum`, counted up once for all the windows it goes into.

    Args:
        total: what to count.
        whole: everything, not the actions alone.
    """

    __slots__ = (
        "actions",
        "authors",
        "domains",
        "negative",
        "neutral",
        "positive",
        "posts",
        "retracted",
        "tags",
        "terms",
        "toxic",
        "unsupported",
    )

    def __init__(self, total: Sum, *, whole: bool) -> None:
        added, back = total.added, total.back
        marks: Counter[int] = Counter()
        self.actions: Counter[str] = Counter()
        self.authors: Collection[str] = ()
        self.tags: Counter[str] = Counter()
        self.domains: Counter[str] = Counter()
        self.terms: Counter[str] = Counter()
        self.posts = 0
        self.retracted = len(back)
        if whole:
            self.posts = len(added) - len(back)
            marks.update([facts.contribution.mark for facts in added])
            marks.subtract(mark for mark, _ in back)
            self.authors = {facts.author for facts in added if facts.author is not None}
            self.tags.update(chain.from_iterable([facts.tags for facts in added]))
            self.domains.update(chain.from_iterable([facts.domains for facts in added]))
            self.terms.update(chain.from_iterable([facts.terms for facts in added]))
        else:
            self.actions.update(facts.contribution.action for facts in added)
            self.actions.subtract(action for _, action in back)
        self.positive = _with_sentiment(marks, Mark.POSITIVE)
        self.neutral = _with_sentiment(marks, Mark.NEUTRAL)
        self.negative = _with_sentiment(marks, Mark.NEGATIVE)
        self.toxic = sum(n for mark, n in marks.items() if mark & Mark.TOXIC)
        self.unsupported = sum(n for mark, n in marks.items() if mark & Mark.UNSUPPORTED)


def _with_sentiment(marks: Counter[int], sentiment: int) -> int:
    return sum(n for mark, n in marks.items() if mark & Mark.SENTIMENT == sentiment)


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """A cell on the changelog, behind its revision."""

    posts: int
    positive: int
    neutral: int
    negative: int
    toxic: int
    unsupported: int
    retracted: int
    actions: dict[str, int]
    authors: bytes | None
    tags: bytes | None
    domains: bytes | None
    terms: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Stored).decode


def revision_of(stored: bytes) -> int:
    """The revision of a stored cell, without reading the rest."""
    return int.from_bytes(stored[:_REVISION_BYTES], "big")


class Cell:
    """One window and group.

    Args:
        key: which.
        stored: what `store` gave; default: an empty cell.
    """

    __slots__ = (
        "_authors",
        "_domains",
        "_tags",
        "_terms",
        "actions",
        "key",
        "negative",
        "neutral",
        "positive",
        "posts",
        "retracted",
        "revision",
        "toxic",
        "unsupported",
    )

    def __init__(self, key: WindowKey, stored: bytes | None = None) -> None:
        self.key = key
        self.revision = 0
        self.posts = self.positive = self.neutral = self.negative = 0
        self.toxic = self.unsupported = self.retracted = 0
        self.actions: dict[str, int] = {}
        self._authors: Authors | None = None
        self._tags: Items | None = None
        self._domains: Items | None = None
        self._terms: Items | None = None
        if stored is not None:
            self._load(stored)

    def _load(self, stored: bytes) -> None:
        self.revision = revision_of(stored)
        state = _decode(memoryview(stored)[_REVISION_BYTES:])
        self.posts, self.retracted = state.posts, state.retracted
        self.positive, self.neutral, self.negative = state.positive, state.neutral, state.negative
        self.toxic, self.unsupported = state.toxic, state.unsupported
        self.actions = state.actions
        self._authors = None if state.authors is None else Authors(state.authors)
        self._tags = self._items(state.tags)
        self._domains = self._items(state.domains)
        self._terms = self._items(state.terms)

    def _items(self, stored: bytes | None) -> Items | None:
        return None if stored is None else self._new_items(stored)

    def _new_items(self, stored: bytes | None = None) -> Items:
        sizes = _LG_OF_ALL if self.key.by == "all" else _LG_OF_GROUP
        return Items(sizes[self.key.width_s], stored)

    def add(self, delta: Delta) -> None:
        """Count what a batch changes."""
        self.posts += delta.posts
        self.retracted += delta.retracted
        self.positive += delta.positive
        self.neutral += delta.neutral
        self.negative += delta.negative
        self.toxic += delta.toxic
        self.unsupported += delta.unsupported
        for action, n in delta.actions.items():
            self.actions[action] = self.actions.get(action, 0) + n
        if delta.authors:
            self._authors = self._authors or Authors()
            self._authors.add(delta.authors)
        self._tags = self._grown(self._tags, delta.tags)
        self._domains = self._grown(self._domains, delta.domains)
        self._terms = self._grown(self._terms, delta.terms)

    def _grown(self, items: Items | None, counts: Counter[str]) -> Items | None:
        if counts:
            items = items or self._new_items()
            items.add(counts)
        return items

    def store(self, revision: int) -> tuple[bytes, _Stored]:
        """Its stored form at a revision, as bytes and as parts for `metric`.

        A cell that is ahead of its book keeps its own, or it would count again what lies between.
        """
        self.revision = revision = max(self.revision, revision)
        state = _Stored(
            self.posts,
            self.positive,
            self.neutral,
            self.negative,
            self.toxic,
            self.unsupported,
            self.retracted,
            {action: n for action, n in sorted(self.actions.items()) if n},
            None if self._authors is None else self._authors.serialise(),
            None if self._tags is None else self._tags.serialise(),
            None if self._domains is None else self._domains.serialise(),
            None if self._terms is None else self._terms.serialise(),
        )
        return revision.to_bytes(_REVISION_BYTES, "big") + _encode(state), state

    def metric(self, state: _Stored, of: Of, partition: int) -> Metric:
        """The record on `metrics` of what `store` gave."""
        key = self.key
        return Metric(
            schema=METRIC_SCHEMA,
            start=key.start,
            width_s=key.width_s,
            by=key.by,
            group=key.group,
            partition=partition,
            revision=self.revision,
            of=of,
            posts=state.posts,
            positive=state.positive,
            neutral=state.neutral,
            negative=state.negative,
            toxic=state.toxic,
            unsupported=state.unsupported,
            retracted=state.retracted,
            actions=state.actions,
            authors=state.authors,
            tags=state.tags,
            domains=state.domains,
            terms=state.terms,
        )
