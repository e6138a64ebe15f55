from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.ledger import Ledger, Partition, Span, SpanState, spans_of

P0, P1 = Partition("posts", 0), Partition("posts", 1)


@dataclass(frozen=True)
class _Record:
    offset: int
    value: bytes | None = b"12345"
    key: bytes | None = b"k"
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


def _spans(partition: Partition, first: int, count: int, most: int) -> list[Span]:
    return spans_of(partition, [_Record(first + n) for n in range(count)], most)


def test_a_fetch_is_cut_into_spans_that_know_where_to_go_on() -> None:
    spans = _spans(P0, 10, 5, 2)
    assert [len(s.records) for s in spans] == [2, 2, 1]
    assert [s.next_offset for s in spans] == [12, 14, 15]
    assert [s.size for s in spans] == [12, 12, 6]


def test_nothing_is_committable_before_the_first_span_is_confirmed() -> None:
    ledger = Ledger()
    first, second = _spans(P0, 0, 4, 2)
    ledger.open([first, second])
    for span in (first, second):
        assert ledger.take(span)
    ledger.confirm([second])
    assert ledger.committable(P0) is None
    ledger.confirm([first])
    assert ledger.committable(P0) == 4


def test_a_confirmation_after_the_partition_was_taken_away_is_void() -> None:
    ledger = Ledger()
    (span,) = _spans(P0, 0, 2, 2)
    ledger.open([span])
    ledger.take(span)
    ledger.forget([P0])
    ledger.confirm([span])
    assert span.dropped
    assert ledger.committable(P0) is None
    assert (ledger.records, ledger.size, ledger.taken) == (0, 0, 0)


def test_the_same_records_handed_out_again_do_not_inherit_the_old_confirmation() -> None:
    ledger = Ledger()
    old = _spans(P0, 0, 4, 2)
    ledger.open(old)
    for span in old:
        ledger.take(span)
    ledger.forget(None)
    new = _spans(P0, 0, 4, 2)
    ledger.open(new)
    for span in new:
        ledger.take(span)
    ledger.confirm(old)
    assert ledger.committable(P0) is None
    ledger.confirm(new[:1])
    assert ledger.committable(P0) == 2


def test_what_nobody_works_on_is_given_back_and_the_rest_still_counts() -> None:
    ledger = Ledger()
    working, queued = _spans(P0, 0, 4, 2)
    ledger.open([working, queued])
    ledger.take(working)
    ledger.drop_queued()
    assert not ledger.take(queued)
    assert ledger.records == 2
    ledger.confirm([working, queued])
    assert ledger.committable(P0) == 2


def test_every_change_is_told() -> None:
    calls: list[int] = []
    ledger = Ledger(lambda: calls.append(1))
    (span,) = _spans(P0, 0, 1, 1)
    ledger.open([span])
    ledger.take(span)
    ledger.confirm([span])
    ledger.forget(None)
    assert len(calls) == 2


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.sampled_from([P0, P1]), st.integers(1, 5)),
            st.tuples(st.just("take"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("confirm"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("forget"), st.sampled_from([P0, P1]), st.just(0)),
            st.tuples(st.just("drop"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_a_commit_never_passes_an_unconfirmed_record(  # noqa: PLR0912 - one branch a step
    steps: list[tuple[str, object, int]],
) -> None:
    """Against a model: the set of confirmed offsets of the records handed out since `forget`."""
    ledger = Ledger()
    spans: list[Span] = []
    next_offset = {P0: 0, P1: 0}
    begun = {P0: 0, P1: 0}
    confirmed: dict[Partition, set[int]] = {P0: set(), P1: set()}
    for step, what, count in steps:
        if step == "open":
            assert isinstance(what, Partition)
            new = _spans(what, next_offset[what], count, 2)
            next_offset[what] += count
            ledger.open(new)
            spans += new
        elif step in ("take", "confirm") and spans:
            assert isinstance(what, int)
            span = spans[what % len(spans)]
            if step == "take":
                # Work is taken in order: the flow's queue is first in, first out.
                queued = [s for s in spans if s.state is SpanState.QUEUED]
                if queued:
                    ledger.take(queued[0])
            else:
                if span.state is SpanState.TAKEN:
                    confirmed[span.partition] |= {r.offset for r in span.records}
                ledger.confirm([span])
        elif step == "forget":
            assert isinstance(what, Partition)
            ledger.forget([what])
            begun[what] = next_offset[what]
            confirmed[what] = set()
        elif step == "drop":
            ledger.drop_queued()
            for partition in (P0, P1):
                # Given back: a rebalance or a rewind reads on from the last commit.
                if any(s.dropped for s in spans if s.partition == partition):
                    ledger.forget([partition])
                    begun[partition] = next_offset[partition]
                    confirmed[partition] = set()
        for partition in (P0, P1):
            offset = ledger.committable(partition)
            if offset is not None:
                assert set(range(begun[partition], offset)) <= confirmed[partition]
    assert ledger.records == sum(
        len(s.records) for s in spans if s.state in (SpanState.QUEUED, SpanState.TAKEN)
    )
    assert ledger.taken == sum(s.state is SpanState.TAKEN for s in spans)


@pytest.mark.parametrize("state", list(SpanState))
def test_only_a_queued_span_can_be_taken(state: SpanState) -> None:
    (span,) = _spans(P0, 0, 1, 1)
    span.state = state
    assert Ledger().take(span) is (state is SpanState.QUEUED)
