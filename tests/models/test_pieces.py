"""Long texts: windows read all of a post up to a bound, and what they say is put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.heads import sigmoid, softmax
from models.manifest import Head
from models.pieces import Cutting, Pieces, combine, overlap_tokens
from models.scorer import OnnxScorer
from tests.models.conftest import MAX_TOKENS, SmallModel

HEADS = {
    "mood": Head(activation="softmax", slice=(0, 3), labels=["a", "b", "c"]),
    "harm": Head(
        activation="sigmoid", slice=(3, 5), labels=["x", "y"], thresholds={"x": 0.5, "y": 0.5}
    ),
}


def random_logits(rows: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, (rows, 5)).astype(np.float32)


def test_the_largest_of_what_is_detected_and_the_mean_of_what_is_answered() -> None:
    logits = random_logits(4)
    pieces = Pieces(np.array([0, 1, 1, 1]), np.array([9, 16, 16, 8], np.float32))
    whole = combine(logits, pieces, 2, HEADS)
    assert np.array_equal(whole[0], logits[0])
    assert sigmoid(whole[1, 3:]) == pytest.approx(sigmoid(logits[1:, 3:]).max(axis=0))
    mean = (softmax(logits[1:, :3]) * np.array([[0.4], [0.4], [0.2]])).sum(axis=0)
    assert softmax(whole[1:, :3])[0] == pytest.approx(mean, abs=1e-6)


def test_a_second_view_only_raises_what_is_detected() -> None:
    logits = random_logits(2)
    pieces = Pieces(np.array([0, 0]), np.array([9, 0], np.float32))
    whole = combine(logits, pieces, 1, HEADS)[0]
    assert np.array_equal(whole[:3], logits[0, :3])
    assert np.array_equal(whole[3:], logits[:, 3:].max(axis=0))


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(0, 99))
def test_the_order_of_the_pieces_changes_nothing(windows: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(windows)), windows)
    logits = random_logits(len(owner), seed)
    weight = random.integers(1, 17, len(owner)).astype(np.float32)
    expected = combine(logits, Pieces(owner, weight), len(windows), HEADS)
    order = random.permutation(len(owner))
    found = combine(logits[order], Pieces(owner[order], weight[order]), len(windows), HEADS)
    assert found == pytest.approx(expected, abs=1e-6)


def test_short_texts_are_one_piece_each(built_small_model: SmallModel) -> None:
    assert built_small_model.scorer().prepare(["the sea", "", "calm"]).pieces == [None]
    assert Cutting(4).pieces(0) is None


def test_every_word_of_a_long_text_lies_whole_in_a_window(built_small_model: SmallModel) -> None:
    scorer = built_small_model.scorer()
    (batch,) = scorer.prepare([" ".join(["sea"] * 40)]).batches[0]
    assert batch.input_ids.shape[1] == MAX_TOKENS
    inner, shared = MAX_TOKENS - 2, overlap_tokens(MAX_TOKENS)
    assert batch.input_ids.shape[0] == 1 + -(-(40 - inner) // (inner - shared))


def test_abuse_at_the_end_of_a_long_post_is_found(bundled_scorer: OnnxScorer) -> None:
    calm = "We walked along the river, saw two herons and had soup at the little harbour. " * 14
    hidden = calm + "You are a stupid idiot and everybody hates you. "
    harmless, harmful = bundled_scorer.score([calm, hidden])
    assert not harmful.truncated
    assert harmless.tasks["toxicity"].label == "none"
    assert harmful.tasks["toxicity"].label != "none"
    # Most of the post is calm: the mood is not that of its last sentence.
    change = harmful.tasks["sentiment"].score - harmless.tasks["sentiment"].score
    assert abs(change) < 0.5


def test_what_one_post_costs_is_bounded(built_small_model: SmallModel) -> None:
    prepared = built_small_model.scorer().prepare(["sea " * 100_000])
    assert sum(len(batch.rows) for batch in prepared.batches[0]) == 4
    assert prepared.truncated == [True]


def test_long_texts_score_the_same_in_any_company(built_small_model: SmallModel) -> None:
    texts = ["sea storm " * 12, "you fool", "the night is calm " * 9, "lovely"]
    alone = [built_small_model.scorer().score([text])[0] for text in texts]
    for found, expected in zip(
        built_small_model.scorer(batch_tokens=4096).score(texts[::-1]), alone[::-1], strict=True
    ):
        for task, answer in expected.tasks.items():
            assert found.tasks[task].scores == pytest.approx(answer.scores, abs=1e-4)
