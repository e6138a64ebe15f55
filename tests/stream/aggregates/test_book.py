"""Counting: windows sum up, order and repetition change nothing, what is taken back never was."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.aggregates.book import Book, Bounds
from stream.aggregates.merge import OTHER, WindowKey, Windows
from tests.stream.aggregates.feed import (
    HOUR,
    NEVER,
    Broker,
    Record,
    counted,
    counts_of,
    decision,
    label,
    numbered,
    random_labels,
    recount,
)

KEY = WindowKey(HOUR, 10, "all", "all")


def book_of(values: list[bytes], bounds: Bounds = NEVER, of: Any = "labels") -> Book:
    book = Book(of, 0, bounds)
    book.add(numbered(values))
    return book


def windows_of(book: Book) -> Windows:
    windows = Windows()
    for metric in book.checkpoint().metrics:
        windows.add(metric)
    return windows


def read(
    records: list[Record], *, seed: int, broker: Broker | None = None, bounds: Bounds = NEVER
) -> Windows:
    """Records in random batches with checkpoints in between, some handed out again."""
    chance = random.Random(seed)
    broker = broker or Broker()
    book = broker.recovered(bounds)
    at = broker.committed
    while at < len(records):
        size = chance.randrange(1, 30)
        book.add(records[max(0, at - chance.randrange(10)) : at + size])
        at += size
        if chance.random() < 0.5:
            broker.take(book, book.checkpoint())
    broker.take(book, book.checkpoint())
    return broker.windows


def read_evenly(records: list[Record], broker: Broker, bounds: Bounds) -> Windows:
    """A checkpoint for every ten records: what is forgotten depends on where they are."""
    book = broker.recovered(bounds)
    for at in range(broker.committed, len(records), 10):
        book.add(records[at : at + 10])
        broker.take(book, book.checkpoint())
    broker.take(book, book.checkpoint())
    return broker.windows


@given(st.integers(0, 10**6), st.integers(1, 100))
@settings(max_examples=20, deadline=None)
def test_totals_equal_a_recount_whatever_the_batches_and_repetitions(seed: int, count: int) -> None:
    records = numbered(random_labels(seed, count))
    assert counted(read(records, seed=seed)) == recount(records)


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_any_order_of_the_same_records_gives_the_same_totals(seed: int) -> None:
    values = random_labels(seed, 80)
    shuffled = random.Random(seed).sample(values, len(values))
    assert counted(windows_of(book_of(shuffled))) == counted(windows_of(book_of(values)))


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_windows_of_10_s_sum_to_those_of_a_minute_and_an_hour(seed: int) -> None:
    found = counted(windows_of(book_of(random_labels(seed, 80))))
    for width_s in (60, 3600):
        sums: dict[WindowKey, Counter[int]] = {}
        for key, counts in found.items():
            if key.width_s == 10:
                wide = WindowKey(key.start - key.start % width_s, width_s, key.by, key.group)
                sums.setdefault(wide, Counter()).update(dict(enumerate(counts[:6])))
        assert {k: [v[i] for i in range(6)] for k, v in sums.items()} == {
            key: list(counts[:6]) for key, counts in found.items() if key.width_s == width_s
        }


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_what_is_deleted_never_was(seed: int) -> None:
    values = random_labels(seed, 60, posts=15)
    gone = [label(f"p{n}", 1000 + n, at_s=5000, op="delete") for n in range(15)]
    others = [label(f"q{n}", 2000 + n, at_s=n) for n in range(30)]
    with_all = windows_of(book_of([*values, *others[:10], *gone, *others[10:]]))
    assert counted(with_all) == counted(windows_of(book_of(others)))


@given(st.integers(0, 10**6), st.integers(1, 300))
@settings(max_examples=20, deadline=None)
def test_a_kill_at_any_write_loses_and_doubles_nothing(seed: int, fail_after: int) -> None:
    """The worker is killed between any two writes, several times; the next one goes on."""
    records = numbered(random_labels(seed, 80))
    broker = Broker()
    for kill in range(4):
        broker.fail_after = broker.writes + fail_after * (kill + 1)
        try:
            read(records, seed=seed + kill, broker=broker)
            break
        except ConnectionError:
            continue
    broker.fail_after = None
    assert counted(read(records, seed=seed + 99, broker=broker)) == recount(records)
    again = broker.recovered()
    assert not again.checkpoint().metrics
    assert again.next_offset == len(records)


@given(st.integers(0, 10**6), st.integers(1, 300))
@settings(max_examples=15, deadline=None)
def test_a_kill_changes_nothing_with_windows_and_posts_that_go(seed: int, fail_after: int) -> None:
    """With bounds that bite, a worker that was killed ends where one that was not does."""
    bounds = Bounds(correctable_s=300, correctable_posts=30, groups={"tag": 2, "language": 2})
    chance = random.Random(seed)
    records = numbered(
        [
            label(
                f"p{max(0, place - chance.choice([0, 0, 0, 1, 3, 20, 60]))}",
                place,
                at_s=place * 20 - chance.choice([0, 0, 5, 200, 900]),
                tags=chance.sample(["x", "y", "z", "w"], 2),
                op=chance.choice(["create", "create", "update", "delete"]),
            )
            for place in range(100)
        ]
    )
    calm, killed = Broker(), Broker()
    expected = read_evenly(records, calm, bounds)
    for kill in range(3):
        killed.fail_after = killed.writes + fail_after * (kill + 1)
        try:
            read_evenly(records, killed, bounds)
            break
        except ConnectionError:
            continue
    killed.fail_after = None
    found = read_evenly(records, killed, bounds)
    assert counted(found) == counted(expected)
    one, other = calm.recovered(bounds), killed.recovered(bounds)
    assert (one.next_offset, one.watermark) == (other.next_offset, other.watermark)


def test_a_post_that_is_edited_counts_once_with_its_latest_label() -> None:
    windows = windows_of(
        book_of(
            [
                label("p", 1, at_s=1, sentiment="negative", toxicity="insult", tags=["x"]),
                label("p", 2, at_s=25, sentiment="positive", op="update", tags=["y"]),
            ]
        )
    )
    before, after = windows.get(KEY), windows.get(KEY._replace(start=HOUR + 20))
    assert before is not None
    assert after is not None
    assert (before.posts, before.negative, before.toxic, before.retracted) == (0, 0, 0, 1)
    assert (after.posts, after.positive, after.toxic) == (1, 1, 0)
    hour = windows.get(WindowKey(HOUR, 3600, "tag", "y"))
    assert hour is not None
    assert hour.posts == 1


def test_the_label_of_an_older_place_does_not_come_back() -> None:
    book = book_of(
        [
            label("p", 5, sentiment="positive"),
            label("p", 3, sentiment="negative"),
            label("p", 5, sentiment="positive"),
        ]
    )
    assert book.counters.repeated == 2
    window = windows_of(book).get(KEY)
    assert window is not None
    assert (window.posts, window.positive) == (1, 1)


def test_a_person_replaces_what_the_policy_decided_and_takes_it_back() -> None:
    values = [
        decision("p", 1, "hide"),
        decision("q", 2, "allow"),
        decision("p", 1, "allow", by="review", after_s=60),
    ]
    windows = windows_of(book_of(values, of="decisions"))
    window = windows.get(KEY)
    assert window is not None
    assert (window.posts, window.actions) == (0, {"allow": 2})
    hidden = windows.get(WindowKey(HOUR, 10, "action", "hide"))
    allowed = windows.get(WindowKey(HOUR, 10, "action", "allow"))
    assert hidden is not None
    assert allowed is not None
    assert (hidden.posts, allowed.posts, allowed.negative, allowed.toxic) == (0, 2, 2, 2)
    undone = [*values, decision("p", 1, "hide", after_s=90)]
    window = windows_of(book_of(undone, of="decisions")).get(KEY)
    assert window is not None
    assert window.actions == {"hide": 1, "allow": 1}


def test_the_decision_on_a_deleted_post_is_taken_back() -> None:
    values = [
        decision("p", 1, "hide"),
        decision("p", 9, "allow", at_s=3, retracted=True, labels={}),
    ]
    windows = windows_of(book_of(values, of="decisions"))
    assert not counted(windows)
    assert recount(numbered(values), of="decisions") == {}


def test_decisions_equal_a_recount() -> None:
    chance = random.Random(4)
    records = numbered(
        decision(
            f"p{chance.randrange(30)}",
            place,
            chance.choice(["allow", "flag", "hide", "remove"]),
            at_s=chance.randrange(900),
        )
        for place in range(200)
    )
    assert counted(windows_of(book_of([v for _, v in records], of="decisions"))) == recount(
        records, of="decisions"
    )


def test_labels_and_decisions_of_one_window_add_up_for_readers() -> None:
    windows = windows_of(book_of([label("p", 1, toxicity="insult")]))
    for metric in book_of([decision("p", 1, "hide")], of="decisions").checkpoint().metrics:
        windows.add(metric)
    window = windows.get(WindowKey(HOUR, 60, "source", "forum"))
    assert window is not None
    assert counts_of(window) == (1, 0, 1, 0, 1, 0, {"hide": 1})


# -- bounds


def test_a_late_post_counts_in_the_windows_that_are_open() -> None:
    bounds = Bounds(correctable_s=60)
    book = book_of([label("new", 1, at_s=2000), label("late", 2, at_s=5)], bounds)
    windows = windows_of(book)
    assert book.counters.late == 1
    assert windows.get(KEY) is None
    assert windows.get(KEY._replace(width_s=60)) is None
    hour = windows.get(KEY._replace(width_s=3600))
    assert hour is not None
    assert hour.posts == 2


def test_a_correction_that_comes_too_late_is_counted_as_such() -> None:
    bounds = Bounds(correctable_s=60, correctable_posts=2)
    book = Book("labels", 0, bounds)
    for n in range(4):
        book.add([(n, label(f"p{n}", n, at_s=n))])
        book.checkpoint()
    book.add([(4, label("p0", 10, at_s=9, op="delete"))])
    assert book.counters.uncorrected == 1
    # The forgotten post's own label, written again by a worker that was killed, counts no more.
    book.add([(5, label("p1", 1, at_s=1))])
    assert book.counters.late == 1
    assert not book.checkpoint().metrics


def test_windows_that_are_over_leave_the_table_and_the_changelog() -> None:
    bounds = Bounds(correctable_s=60)
    broker = Broker()
    book = Book("labels", 0, bounds)
    most = 0
    for n in range(600):
        book.add([(n, label(f"p{n}", n, at_s=n * 60, tags=[f"t{n}"]))])
        broker.take(book, book.checkpoint())
        most = max(most, len(broker.changelog))
    assert most < 2000
    assert len(broker.recovered(bounds)._cells) == len(book._cells)
    starts = {key.start for key in book._cells if key.width_s == 10}
    assert min(starts) >= book.watermark - 60 - 10


def test_more_groups_than_the_bound_count_in_other() -> None:
    bounds = Bounds(groups={"tag": 3})
    book = book_of([label(f"p{n}", n, tags=[f"t{n}"]) for n in range(10)], bounds)
    windows = windows_of(book)
    assert windows.groups(10, "tag") == [OTHER, "t0", "t1", "t2"]
    other = windows.get(WindowKey(HOUR, 10, "tag", OTHER))
    assert other is not None
    assert other.posts == 7
    assert book.counters.folded == 7 * 3
    book.add([(10, label("p9", 20, op="delete"))])
    other = windows_of(book).get(WindowKey(HOUR, 10, "tag", OTHER))
    assert other is not None
    assert other.posts == 6


def test_a_clock_ahead_of_ours_does_not_close_windows() -> None:
    book = book_of(
        [
            label("wrong", 1, at_s=10**7, labelled_at_s=3),
            label("right", 2, at_s=4),
        ],
        Bounds(correctable_s=60),
    )
    window = windows_of(book).get(KEY)
    assert window is not None
    assert window.posts == 2


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"schema":"tidegate.label.v9"}'])
def test_what_is_no_label_is_skipped_and_counted(value: bytes | None) -> None:
    book = Book("labels", 0)
    book.add([(0, value), (1, label("p", 1))])
    assert book.counters.unreadable == 1
    assert book.next_offset == 2
    window = windows_of(book).get(KEY)
    assert window is not None
    assert window.posts == 1


def test_sketches_name_authors_tags_and_terms() -> None:
    values = [
        label(f"p{n}", n, author=f"a{n % 7}", text="The tide gate #Flood", tags=["flood"])
        for n in range(20)
    ]
    window = windows_of(book_of(values)).get(KEY)
    assert window is not None
    assert window.authors.estimate == 7
    assert [(r.item, r.posts) for r in window.top_tags()] == [("flood", 20)]
    assert [(r.item, r.posts) for r in window.top_terms()] == [("gate", 20), ("tide", 20)]


def test_a_key_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="no key of this book"):
        Book("labels", 0).restore(b"xd/10/0/all/all", b"")
