"""The audit's hash chains: one for each partition of each audited topic.

    hash(n) = SHA-256(hash(n-1), a line feed, canonical JSON of entry n)

Canonical JSON has sorted keys, no blanks, UTF-8; `record_sha256` is the record's own digest.
Invariant: a chain depends on the records of its partition and on nothing else, so that a rebuild
from the topics gives the same hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from dashboard.projection import Place

#: What the first entry of a topic's partition follows.
GENESIS: Final = ""
_canonical = msgspec.json.Encoder(order="sorted").encode


class Entry(NamedTuple):
    """What the audit says of one record, before it is chained; `detail` is canonical JSON."""

    partition: int
    offset: int
    at_ms: int
    who: str
    what: str
    on: str
    detail: str
    by_person: int
    record_sha256: str


class Broken(NamedTuple):
    """The first entry of a chain that is not what it was."""

    chain: str
    partition: int
    offset: int
    why: str


def entry_of(
    value: bytes,
    place: Place,
    *,
    at_ms: int,
    who: str,
    what: str,
    on: str,
    detail: Mapping[str, Any],
    by_person: bool = False,
) -> Entry:
    """The entry of a record."""
    return Entry(
        place.partition,
        place.offset,
        at_ms,
        who,
        what,
        on,
        _canonical(detail).decode(),
        int(by_person),
        hashlib.sha256(value).hexdigest(),
    )


def unreadable_entry(value: bytes | None, place: Place) -> Entry:
    """The entry of a record that is not what its topic promises: it is there, and says so."""
    return entry_of(
        value or b"", place, at_ms=max(place.timestamp_ms, 0), who="", what="unreadable", on="",
        detail={},
    )  # fmt: skip


def entry_hash(previous: str, chain: str, entry: Entry) -> str:
    """The hash of an entry after the previous one's."""
    text = _canonical((chain, *entry))
    return hashlib.sha256(previous.encode() + b"\n" + text).hexdigest()


def first_broken(
    chain: str, first_prev: str, head: tuple[int, str, int], held: Iterable[tuple[Entry, str]]
) -> Broken | None:
    """The first entry that does not fit; None: the chain is whole.

    Args:
        chain: its name: the topic's.
        first_prev: the hash before the first entry that is held.
        head: offset after the last entry, its hash, and how many entries there are.
        held: the entries in the order of their offsets, each with its hash.
    """
    previous, next_offset, n, partition = first_prev, -1, 0, -1
    for entry, stored in held:
        partition = entry.partition
        if entry_hash(previous, chain, entry) != stored:
            return Broken(
                chain,
                entry.partition,
                entry.offset,
                "this entry, or one between it and the one before, was changed, added or removed",
            )
        previous, next_offset, n = stored, entry.offset + 1, n + 1
    end, last, entries = head
    if (previous, n) != (last, entries) or (n and next_offset != end):
        return Broken(chain, partition, max(next_offset, 0), "entries are missing from here on")
    return None


def chained(chain: str, previous: str, entries: Iterable[Entry]) -> Iterator[tuple[Entry, str]]:
    """Entries with their hashes, after a previous one."""
    for entry in entries:
        previous = entry_hash(previous, chain, entry)
        yield entry, previous
