"""The two Apache DataSketches that windows carry, and how exact each is.

Distinct authors: HyperLogLog with 2^11 registers, 2.3 % standard error. Tags, domains and terms:
frequent items; an item whose count is more than `error` of the total is never missing, and a
count is too low or too high by no more than that. Neither can forget: what a retracted post put
in stays until its window is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from datasketches import (
    frequent_items_error_type,
    frequent_strings_sketch,
    hll_sketch,
    hll_union,
    tgt_hll_type,
)

#: 2^11 registers: a standard error of 1.04 / sqrt(2^11) = 2.3 %, in at most 1.1 KB.
LG_REGISTERS: Final = 11
#: What readers merge frequent items into: room for 1,536 items, an error of 0.17 % of the total.
LG_MERGED_ITEMS: Final = 11


class Ranked(NamedTuple):
    """A frequent item: in `posts` posts, surely in no less than `at_least` nor more than `at_most`."""

    item: str
    posts: int
    at_least: int
    at_most: int


class Distinct(NamedTuple):
    """A number of distinct values, with the bounds of two standard errors (95 %)."""

    estimate: int
    at_least: int
    at_most: int


def new_authors() -> hll_sketch:
    """An empty sketch of distinct authors."""
    return hll_sketch(LG_REGISTERS, tgt_hll_type.HLL_4)


def merged_authors(sketches: Iterable[bytes]) -> bytes | None:
    """The sketch of everybody in any of these; None: of nobody."""
    union, any_ = hll_union(LG_REGISTERS), False
    for sketch in sketches:
        union.update(hll_sketch.deserialize(sketch))
        any_ = True
    return union.get_result(tgt_hll_type.HLL_4).serialize_compact() if any_ else None


def distinct(sketch: bytes | None) -> Distinct:
    """How many values a sketch has seen."""
    if sketch is None:
        return Distinct(0, 0, 0)
    hll = hll_sketch.deserialize(sketch)
    return Distinct(
        round(hll.get_estimate()), round(hll.get_lower_bound(2)), round(hll.get_upper_bound(2))
    )


def merged_items(sketches: Iterable[bytes]) -> bytes | None:
    """The frequent items of all of these together; None: of nothing."""
    total: frequent_strings_sketch | None = None
    for sketch in sketches:
        if total is None:
            total = frequent_strings_sketch(LG_MERGED_ITEMS)
        total.merge(frequent_strings_sketch.deserialize(sketch))
    return None if total is None else total.serialize()


def ranked(sketch: bytes | None, most: int) -> list[Ranked]:
    """The items with the highest counts, highest first, then by name; at most `most`."""
    if sketch is None:
        return []
    found = frequent_strings_sketch.deserialize(sketch).get_frequent_items(
        frequent_items_error_type.NO_FALSE_NEGATIVES
    )
    items = [Ranked(item, count, low, high) for item, count, low, high in found]
    items.sort(key=lambda item: (-item.posts, item.item))
    return items[:most]


class Items:
    """Frequent items that grow: counted exactly as long as they are few.

    Args:
        lg_size: at most 0.75 * 2^lg_size items are held; a count is then wrong by at most
            3.5 / 2^lg_size of the total.
    """

    __slots__ = ("_sketch",)

    def __init__(self, lg_size: int, stored: bytes | None = None) -> None:
        self._sketch = (
            frequent_strings_sketch(lg_size)
            if stored is None
            else frequent_strings_sketch.deserialize(stored)
        )

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts of items."""
        update = self._sketch.update
        for item, n in counts.items():
            update(item, n)

    def serialise(self) -> bytes:
        """As `ranked` and `merged_items` read it."""
        stored: bytes = self._sketch.serialize()
        return stored


class Authors:
    """Distinct authors that grow."""

    __slots__ = ("_sketch",)

    def __init__(self, stored: bytes | None = None) -> None:
        self._sketch = new_authors() if stored is None else hll_sketch.deserialize(stored)

    def add(self, names: Iterable[str]) -> None:
        """Add authors; those it has seen change nothing."""
        update = self._sketch.update
        for name in names:
            update(name)

    def serialise(self) -> bytes:
        """As `distinct` and `merged_authors` read it."""
        stored: bytes = self._sketch.serialize_compact()
        return stored
