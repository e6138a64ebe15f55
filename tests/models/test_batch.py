"""Cutting into batches: an algebra, so properties."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
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


@given(LENGTHS, BUDGET)
def test_no_two_neighbouring_batches_could_have_been_one(lengths: list[int], budget: int) -> None:
    batches = cut_batches(np.array(lengths, dtype=np.intp), budget)
    for first, second in itertools.pairwise(batches):
        assert (len(first) + len(second)) * lengths[first[0]] > budget


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
