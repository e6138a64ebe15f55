"""Every book of a worker: which there are, and their changes in the envelope of the changelog.

Invariant: a book is made in `recovered` and nowhere else, so that nothing is counted into a
partition whose past is not known.
"""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from stream.aggregates.book import Book, Bounds, Change
from stream.aggregates.facts import Of
from stream.errors import BrokerError
from stream.outcomes import AGGREGATE_SCHEMA, AggregateChange, decode_aggregate_change
from stream.records import encode

_TOPICS: Final[tuple[Of, ...]] = get_args(Of)


def to_changelog(change: Change) -> bytes | None:
    """The value of a change on the changelog."""
    if change.value is None:
        return None
    return encode(AggregateChange(schema=AGGREGATE_SCHEMA, body=change.value))


class Books:
    """The books of the partitions that are ours.

    Args:
        bounds: of each.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._books: dict[tuple[Of, int], Book] = {}
        self._recovering: dict[tuple[Of, int], Book] = {}
        #: Recovered, and not yet compared with the topics that they count.
        self.unchecked: list[Book] = []

    def get(self, of: Of, partition: int) -> Book | None:
        """The book of a partition; None: it is not ours."""
        return self._books.get((of, partition))

    def is_current(self, book: Book) -> bool:
        """Whether the book is still ours: what is made of another is not written."""
        return self._books.get((book.of, book.partition)) is book

    def forget(self) -> None:
        """Nothing is ours any more."""
        self._books, self._recovering, self.unchecked = {}, {}, []

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog.

        Raises:
            BrokerError: it is not one of ours, or of another version.
        """
        try:
            of: Of = "labels" if key[1:2] == b"l" else "decisions"
            body = None if value is None else decode_aggregate_change(value).body
            book = self._recovering.setdefault((of, partition), Book(of, partition, self._bounds))
            book.restore(key, body)
        except (msgspec.DecodeError, ValueError) as exc:
            raise BrokerError(
                f"the changelog of the windows cannot be read: {exc}",
                where=f"partition {partition}, key {key[:80].decode(errors='replace')}",
                hint="delete the topic `aggregates` and create it again: the windows that are "
                "open begin anew, those that are over stay on `metrics`",
            ) from exc

    def recovered(self, partitions: frozenset[int]) -> None:
        """The changelogs of these partitions have been read."""
        recovering, self._recovering = self._recovering, {}
        for partition in partitions:
            for of in _TOPICS:
                book = recovering.get((of, partition)) or Book(of, partition, self._bounds)
                book.restored()
                self._books[of, partition] = book
                self.unchecked.append(book)
