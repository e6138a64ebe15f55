"""Cutting into batches: an algebra, so properties."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from models.batch import cut_batches, pad_batches

LENGTHS = st.lists(st.integers(1, 80), max_size=200)
BUDGET = st.integers(1, 2000)


@given(LENGTHS, BUDGET)
def test_every_text_lies_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    batches = cut_batches(np.array(lengths, dtype=np.intp), budget)
    assert sorted(row for rows in batches for row in rows.tolist()) == list(range(len(lengths)))


@given(LENGTHS, BUDGET)
def test_padding_included_no_batch_is_over_the_budget(lengths: list[int], budget: int) -> None:
    for rows in cut_batches(np.array(lengths, dtype=np.intp), budget):
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or len(rows) * longest <= budget


@given(LENGTHS, BUDGET)
def test_batches_run_from_long_to_short(lengths: list[int], budget: int) -> None:
    batches = cut_batches(np.array(lengths, dtype=np.intp), budget)
    order = [lengths[row] for rows in batches for row in rows]
    assert order == sorted(lengths, reverse=True)


def _cost(groups: list[list[int]], call_tokens: int) -> int:
    return sum(call_tokens + len(group) * max(group) for group in groups)


def _every_cutting(lengths: list[int]) -> Iterator[list[list[int]]]:
    """All ways to cut a list into runs."""
    if not lengths:
        yield []
    for size in range(1, len(lengths) + 1):
        for rest in _every_cutting(lengths[size:]):
            yield [lengths[:size], *rest]


@example([1, 4, 6, 7, 9], 45, 11)
@given(st.lists(st.integers(1, 60), max_size=9), st.integers(20, 200), st.integers(0, 80))
def test_no_other_cutting_would_be_cheaper(
    lengths: list[int], budget: int, call_tokens: int
) -> None:
    batches = cut_batches(np.array(lengths, dtype=np.intp), budget, call_tokens)
    ours = _cost([[lengths[row] for row in rows] for rows in batches], call_tokens)
    cheapest = min(
        _cost(groups, call_tokens)
        for groups in _every_cutting(sorted(lengths, reverse=True))
        if all(len(group) == 1 or len(group) * group[0] <= budget for group in groups)
    )
    assert ours == cheapest


def test_one_long_text_does_not_make_its_short_neighbours_long() -> None:
    batches = cut_batches(np.array([12, 64, 11, 12, 10, 63], dtype=np.intp), 1536)
    assert [rows.tolist() for rows in batches] == [[1, 5], [0, 3, 2, 4]]


def test_a_few_texts_are_shared_among_the_lanes_and_a_crumb_is_not() -> None:
    eight, crumb = (np.full(count, 32, dtype=np.intp) for count in (8, 2))
    assert [len(rows) for rows in cut_batches(eight, 768, lanes=2)] == [4, 4]
    assert [len(rows) for rows in cut_batches(eight, 768, lanes=64)] == [2, 2, 2, 2]
    assert [len(rows) for rows in cut_batches(crumb, 768, lanes=2)] == [2]


@given(st.lists(st.lists(st.integers(2, 500), min_size=1, max_size=40), max_size=60), BUDGET)
def test_tokens_come_back_out_of_the_padded_batches(tokens: list[list[int]], budget: int) -> None:
    seen: dict[int, list[int]] = {}
    for batch in pad_batches(tokens, budget, pad_id=1):
        assert batch.input_ids.shape == batch.attention_mask.shape
        assert (batch.input_ids[batch.attention_mask == 0] == 1).all()
        for row, ids, mask in zip(batch.rows, batch.input_ids, batch.attention_mask, strict=True):
            seen[int(row)] = ids[mask == 1].tolist()
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)
    assert [seen[i] for i in range(len(tokens))] == tokens
