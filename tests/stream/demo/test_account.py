from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.demo.account import Account, Answer, Spans, percentiles_ms


def test_every_post_is_answered_once() -> None:
    latencies: list[float] = []
    account = Account(latencies.append)

    account.post(0, 10, 3, at_s=1.0)
    account.answer(0, 10, Answer.LABEL, at_s=1.5)
    account.answer(0, 11, Answer.DEAD_LETTER, at_s=2.0)
    account.answer(0, 10, Answer.LABEL, at_s=9.0)  # a restarted worker labels it again

    assert (account.posted, account.labelled, account.dead_lettered) == (3, 1, 1)
    assert (account.duplicates, account.outstanding) == (1, 1)
    assert account.oldest(5) == [(0, 12)]
    assert latencies == [0.5, 1.0]


def test_an_answer_may_come_before_the_confirmation() -> None:
    account = Account()

    account.answer(2, 7, Answer.LABEL, at_s=1.0)
    account.answer(2, 7, Answer.LABEL, at_s=1.1)
    assert account.answered == 0
    account.post(2, 7, 1, at_s=0.5)

    assert (account.labelled, account.duplicates, account.outstanding) == (1, 1, 0)


def test_others_posts_are_not_ours() -> None:
    account = Account()
    account.post(0, 100, 1, at_s=0.0)

    for offset in range(50):
        account.answer(0, offset, Answer.LABEL, at_s=1.0)

    assert (account.posted, account.answered, account.duplicates) == (1, 0, 0)


def test_a_line_that_was_never_posted_counts_too() -> None:
    account = Account()

    account.refuse(2)

    assert (account.posted, account.dead_lettered, account.outstanding) == (2, 2, 0)


_EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15)), max_size=60)


@given(events=_EVENTS, order=st.randoms())
def test_it_adds_up_in_any_order(events: list[tuple[int, int]], order: object) -> None:
    """Answers before, after and in between the confirmations: the same account at the end."""
    posted = sorted({(partition, offset) for partition, offset in events if offset % 3})
    steps = [("post", place) for place in posted] + [("answer", place) for place in events]
    order.shuffle(steps)  # type: ignore[attr-defined]
    account = Account()

    for step, (partition, offset) in steps:
        if step == "post":
            account.post(partition, offset, 1, at_s=0.0)
        else:
            account.answer(partition, offset, Answer.LABEL, at_s=1.0)
        assert account.posted == account.answered + account.outstanding

    answered = [place for place in events if place in posted]
    assert account.labelled == len(set(answered))
    assert account.duplicates == len(answered) - len(set(answered))


@given(
    runs=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=20),
    order=st.randoms(),
)
def test_spans_are_a_set(runs: list[tuple[int, int]], order: object) -> None:
    spans, offsets, at = Spans(), set(), 0
    pieces = []
    for length, gap in runs:
        pieces.append((at, at + length))
        offsets |= set(range(at, at + length))
        at += length + gap
    order.shuffle(pieces)  # type: ignore[attr-defined]

    for start, end in pieces:
        spans.add(start, end)

    assert {offset for offset in range(-1, at + 2) if offset in spans} == offsets


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([0.5], {"p50": 500.0, "p95": 500.0, "p99": 500.0}),
        ([n / 1000 for n in range(100)], {"p50": 50.0, "p95": 95.0, "p99": 99.0}),
    ],
)
def test_percentiles(values: list[float], expected: dict[str, float] | None) -> None:
    assert percentiles_ms(values) == expected
