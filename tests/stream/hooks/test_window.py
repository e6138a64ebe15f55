"""What may be committed while some of it is stuck, with the ledger that commits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.window import Ticket, Window
from stream.kafka.ledger import Ledger, Partition, Span, spans_of

PARTITION = Partition("decisions", 0)


def spans(count: int, size: int = 4) -> list[Span]:
    records: list[Any] = [
        SimpleNamespace(key=b"", value=b"x", headers=(), timestamp=0, offset=offset)
        for offset in range(count * size)
    ]
    return spans_of(PARTITION, records, size)


@given(
    wanted=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_nothing_unresolved_is_ever_committed(wanted: list[int], order: Any) -> None:
    ledger = Ledger()
    window = Window(1000, 1000, ledger.confirm)
    made = spans(len(wanted))
    ledger.open(made)
    events: list[tuple[int, Ticket]] = []
    for number, (span, count) in enumerate(zip(made, wanted, strict=True)):
        assert ledger.take(span)
        ticket = window.open(span, count)
        events += [(number, ticket)] * count
    order.shuffle(events)
    left = list(wanted)
    while True:
        first_open = next((n for n, count in enumerate(left) if count), len(left))
        assert (ledger.committable(PARTITION) or 0) == first_open * 4
        assert window.ahead == sum(wanted[first_open:])
        if not events:
            break
        number, ticket = events.pop()
        ticket.resolve()
        left[number] -= 1
    assert window.records == 0
    assert ledger.records == 0


def test_the_window_closes_behind_a_stuck_event_and_opens_again() -> None:
    ledger = Ledger()
    window = Window(4, 1000, ledger.confirm)
    made = spans(3)
    ledger.open(made)
    tickets = []
    for span in made[:2]:
        ledger.take(span)
        tickets.append(window.open(span, 2))
    assert not window.has_room
    tickets[1].resolve()
    tickets[1].resolve()
    assert not window.has_room, "delivered behind a stuck one still counts"
    tickets[0].resolve()
    tickets[0].resolve()
    assert window.has_room


def test_unwanted_records_have_a_bound_of_their_own() -> None:
    ledger = Ledger()
    window = Window(100, 12, ledger.confirm)
    made = spans(3)
    ledger.open(made)
    for span in made:
        ledger.take(span)
        window.open(span, 1 if span is made[0] else 0)
    assert window.ahead == 1
    assert not window.has_room


def test_what_was_taken_away_counts_no_more() -> None:
    ledger = Ledger()
    window = Window(100, 100, ledger.confirm)
    made = spans(2)
    ledger.open(made)
    for span in made:
        ledger.take(span)
    tickets = [window.open(span, 3) for span in made]
    ledger.forget([PARTITION])
    window.forget_dropped()
    assert (window.ahead, window.records) == (0, 0)
    for _ in range(3):
        tickets[0].resolve()
    assert (window.ahead, window.records) == (0, 0)
    assert ledger.committable(PARTITION) is None
