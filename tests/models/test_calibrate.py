"""Calibration: errors fall, orders stay, and what has too few rows is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibrate import (
    MIN_LANGUAGE_ROWS,
    calibrate_sigmoid,
    calibrate_softmax,
    fit_curve,
    fit_isotonic,
    fit_line,
    fit_temperature,
    language_thresholds,
    measured_thresholds,
)
from models.curves import Curve
from models.heads import HeadReader
from models.manifest import Head
from models.metrics import calibration_error, roc_auc

SIGMOID = Head(
    activation="sigmoid",
    slice=(0, 2),
    labels=["toxic", "threat"],
    thresholds={"toxic": 0.5, "threat": 0.5},
)


def drawn(
    rows: int, scale: float, shift: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits that are too sure by `scale` and off by `shift`, and truths."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(-1, 2, rows)
    truth = (rng.random(rows) < 1 / (1 + np.exp(-honest))).astype(np.float64)
    return honest * scale + shift, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 4)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) > rng.random((len(honest), 1))).argmax(axis=1)
    logits = (honest * temperature).astype(np.float32)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)


def test_a_line_undoes_what_a_line_did() -> None:
    logits, truth = drawn(30_000, 2.0, 1.0)
    curve = fit_line(logits, truth)
    assert curve(np.array([1.0, 3.0])) == pytest.approx([0.0, 1.0], abs=0.1)


@given(st.integers(0, 30), st.sampled_from([0.3, 1.0, 4.0]), st.sampled_from([-3.0, 0.0, 3.0]))
def test_a_curve_keeps_the_order(seed: int, scale: float, shift: float) -> None:
    logits, truth = drawn(400, scale, shift, seed)
    if truth.sum() < 5:
        return
    points = np.sort(np.concatenate([logits, np.linspace(-60, 60, 200)]))
    for fit in (fit_line, fit_isotonic):
        curve = fit(logits, truth)
        assert not list(curve.problems())
        assert (np.diff(curve(points))[np.diff(points) > 1e-6] > 0).all()


def test_a_bent_score_needs_more_than_a_line() -> None:
    logits, truth = drawn(8000, 1.0, 0.0)
    bent = np.sign(logits) * np.abs(logits) ** 3
    found = fit_curve(bent, truth)
    assert found is not None
    curve, figures = found
    assert figures.method == curve.method == "isotonic"
    assert figures.after < 0.03 < figures.before
    straight = fit_curve(logits * 2, truth)
    assert straight is not None
    assert straight[1].method == "linear"
    assert len(curve.raw) < 25


def test_too_few_rows_are_left_alone() -> None:
    logits, truth = drawn(400, 2.0, 0.0)
    assert fit_curve(logits[:30], np.append(np.ones(3), np.zeros(27))) is None
    both = np.stack([logits, logits], axis=1).astype(np.float32)
    truths = np.stack([truth, np.full(400, -1)], axis=1).astype(int)
    head, figures = calibrate_sigmoid(SIGMOID, both, truths)
    assert list(head.curves) == list(figures) == ["toxic"]


def test_scores_come_true_after_and_rank_as_before() -> None:
    logits, truth = drawn(6000, 3.0, 2.0)
    both = np.stack([logits, logits], axis=1).astype(np.float32)
    truths = np.stack([truth, truth], axis=1).astype(int)
    head, figures = calibrate_sigmoid(SIGMOID, both, truths)
    before = HeadReader(SIGMOID).probabilities(both)[:, 0]
    after = HeadReader(head).probabilities(both)[:, 0]
    assert calibration_error(truth, after) < 0.03
    assert calibration_error(truth, before) > 0.1
    assert figures["toxic"].after < 0.03
    assert roc_auc(truths[:, 0], after) == pytest.approx(roc_auc(truths[:, 0], logits), abs=1e-3)


def test_a_softmax_head_keeps_its_answers() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 900)
    logits = (rng.normal(size=(900, 3)) + 2 * np.eye(3)[truth]).astype(np.float32) * 5
    head = Head(activation="softmax", slice=(0, 3), labels=["a", "b", "c"])
    warm, figures = calibrate_softmax(head, logits, truth)
    assert warm.temperature > 2
    assert figures.after < figures.before
    a, b = (HeadReader(x).probabilities(logits).argmax(axis=1) for x in (head, warm))
    assert (a == b).all()


def test_a_language_with_enough_rows_has_its_own_threshold() -> None:
    rng = np.random.default_rng(4)
    rows = 2 * MIN_LANGUAGE_ROWS
    truth = rng.integers(0, 2, (rows, 2))
    langs = ["en"] * (rows // 2) + ["de"] * (rows // 2 - 10) + ["fr"] * 10
    # German scores lie lower.
    low = np.array([0.0 if lang == "en" else 0.4 for lang in langs])
    scores = np.stack([0.5 + 0.3 * truth[:, 0] - low + 0.05, np.full(rows, 0.5)], axis=1)
    truth[:, 1] = -1
    found = language_thresholds(SIGMOID, scores.astype(np.float32), truth, langs)
    assert list(found) == ["en"]  # ten rows short
    langs[-10:] = ["de"] * 10
    found = language_thresholds(SIGMOID, scores.astype(np.float32), truth, langs)
    assert found["de"]["toxic"].threshold < 0.5 < found["en"]["toxic"].threshold
    assert found["de"]["toxic"].precision == found["de"]["toxic"].recall == 1.0
    assert "threat" not in found["en"]
    at = measured_thresholds(
        {"toxic": 0.5, "threat": 0.5}, SIGMOID, scores.astype(np.float32), truth
    )
    assert at["toxic"].rows == rows
    assert at["toxic"].recall == pytest.approx(
        truth[: rows // 2, 0].sum() / truth[:, 0].sum(), abs=1e-3
    )
    assert at["threat"].rows == 0


def test_the_calibration_error_is_the_mean_gap() -> None:
    said = np.array([0.9, 0.9, 0.1, 0.1])
    assert calibration_error(np.array([1, 1, 0, 0]), said) == pytest.approx(0.1)
    assert calibration_error(np.array([0, 0, 1, 1]), said) == pytest.approx(0.9)
    assert calibration_error(np.array([]), np.array([])) == 0.0


def test_a_curve_goes_on_beyond_its_ends() -> None:
    curve = Curve(method="linear", raw=[-1.0, 1.0], calibrated=[0.0, 1.0])
    assert curve(np.array([-3.0, 0.0, 5.0])).tolist() == [-1.0, 0.5, 3.0]
