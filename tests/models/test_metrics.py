"""Figures, against scikit-learn as the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from models.metrics import (
    at_threshold,
    average_precision,
    best_f1_threshold,
    class_figures,
    recalls,
    roc_auc,
)

#: Few distinct scores, so that ties are common.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=1, max_size=60)
CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(ROWS)
def test_roc_auc_and_average_precision(rows: list[tuple[int, int]]) -> None:
    truth = np.array([t for t, _ in rows])
    score = np.array([s / 8 for _, s in rows])
    if len(set(truth.tolist())) == 1:
        assert roc_auc(truth, score) is None
        assert average_precision(truth, score) is None
        return
    assert roc_auc(truth, score) == pytest.approx(reference.roc_auc_score(truth, score))
    assert average_precision(truth, score) == pytest.approx(
        reference.average_precision_score(truth, score)
    )


@given(CLASSES)
def test_class_figures(rows: list[tuple[int, int]]) -> None:
    truth, answer = (np.array(column) for column in zip(*rows, strict=True))
    occurring = sorted(set(truth.tolist()))
    figures = class_figures(truth, answer, 4)
    assert figures.accuracy == pytest.approx(reference.accuracy_score(truth, answer))
    for name, score in (("macro_recall", "recall_score"), ("macro_f1", "f1_score")):
        expected = getattr(reference, score)(
            truth, answer, labels=occurring, average="macro", zero_division=0
        )
        assert getattr(figures, name) == pytest.approx(expected)
    for label, recall in enumerate(recalls(truth, answer, 4)):
        assert (recall is None) == (label not in occurring)


@given(ROWS)
def test_no_other_threshold_has_a_larger_f1(rows: list[tuple[int, int]]) -> None:
    truth = np.array([t for t, _ in rows])
    score = np.array([s / 8 for _, s in rows], dtype=np.float32)
    threshold = best_f1_threshold(truth, score)
    if threshold is None:
        assert not truth.any()
        return
    best = at_threshold(truth, score, threshold).f1
    for other in np.linspace(0, 1, 41):
        assert at_threshold(truth, score, float(other)).f1 <= best + 1e-9


@given(ROWS, st.floats(0, 1))
def test_figures_at_a_threshold(rows: list[tuple[int, int]], threshold: float) -> None:
    truth = np.array([t for t, _ in rows])
    score = np.array([s / 8 for _, s in rows], dtype=np.float32)
    said = (score >= np.float32(threshold)).astype(int)
    found = at_threshold(truth, score, threshold)
    kind = {"zero_division": 0.0}
    assert found.precision == pytest.approx(reference.precision_score(truth, said, **kind))
    assert found.recall == pytest.approx(reference.recall_score(truth, said, **kind))
    assert found.f1 == pytest.approx(reference.f1_score(truth, said, **kind))


@given(ROWS, st.floats(0.1, 1))
def test_a_threshold_keeps_the_precision_it_is_asked_for(
    rows: list[tuple[int, int]], precision: float
) -> None:
    truth = np.array([t for t, _ in rows])
    score = np.array([s / 8 for _, s in rows], dtype=np.float32)
    threshold = best_f1_threshold(truth, score, precision)
    reached = [
        at_threshold(truth, score, float(other))
        for other in np.unique(score)
        if at_threshold(truth, score, float(other)).precision >= precision
    ]
    if threshold is None:
        assert not [figures for figures in reached if figures.recall > 0]
        return
    chosen = at_threshold(truth, score, threshold)
    assert chosen.precision >= precision
    assert chosen.f1 == pytest.approx(max(figures.f1 for figures in reached))
