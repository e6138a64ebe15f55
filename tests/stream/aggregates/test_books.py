"""The books of a worker: only recovered partitions have one, and a foreign changelog is named."""

from __future__ import annotations

import pytest

from stream.aggregates.book import Bounds
from stream.aggregates.books import Books, to_changelog
from stream.errors import BrokerError
from tests.stream.aggregates.feed import label


def recovered(*partitions: int) -> Books:
    books = Books(Bounds())
    books.recovered(frozenset(partitions))
    return books


def test_only_recovered_partitions_have_books() -> None:
    books = recovered(1)
    assert books.get("labels", 0) is None
    book = books.get("labels", 1)
    assert book is not None
    assert books.is_current(book)
    assert books.get("decisions", 1) is not None
    books.forget()
    assert books.get("labels", 1) is None
    assert not books.is_current(book)


def test_what_is_written_is_restored_by_the_next_owner() -> None:
    first = recovered(3)
    book = first.get("labels", 3)
    assert book is not None
    book.add([(n, label(f"p{n}", n)) for n in range(10)])
    made = book.checkpoint()
    second = Books(Bounds())
    for change in (*made.cells, *made.markers):
        second.restore(3, change.key, to_changelog(change))
    second.recovered(frozenset({3}))
    again = second.get("labels", 3)
    assert again is not None
    assert again.next_offset == 10
    assert {(b.of, b.next_offset) for b in second.unchecked} == {("labels", 10), ("decisions", 0)}
    again.add([(n, label(f"p{n}", n)) for n in range(10)])
    assert not again.dirty


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"cl10/0/all/all", b"{}"),
        (b"cl10/0/all/all", b'{"schema":"tidegate.aggregate.v9","body":""}'),
        (b"sl0/0", b'{"schema":"tidegate.aggregate.v1","body":"AAAA"}'),
        (b"something else", None),
    ],
)
def test_a_changelog_of_another_kind_is_named(key: bytes, value: bytes | None) -> None:
    with pytest.raises(BrokerError) as error:
        Books(Bounds()).restore(2, key, value)
    assert "the changelog of the windows cannot be read" in str(error.value)
    assert "partition 2" in (error.value.where or "")
    assert "`aggregates`" in (error.value.hint or "")
