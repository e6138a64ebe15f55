"""The figures of a model card, from scores and truths alone; nothing here knows a model.

A figure that the rows cannot give (one class only) is None, never 0 or 1.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One answer out of several. `macro_recall` is the mean recall of the classes that occur."""

    rows: int
    accuracy: float
    macro_recall: float
    macro_f1: float


class DetectionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A score for yes or no, over all thresholds."""

    rows: int
    positives: int
    roc_auc: float | None
    average_precision: float | None


class ThresholdFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A score for yes or no at one threshold."""

    threshold: float
    precision: float
    recall: float
    f1: float


def recalls(truth: Ints, answer: Ints, classes: int) -> list[float | None]:
    """Recall of each class; None for one that does not occur."""
    there = np.bincount(truth, minlength=classes)
    hit = np.bincount(truth[truth == answer], minlength=classes)
    return [float(h / n) if n else None for h, n in zip(hit, there, strict=True)]


def class_figures(truth: Ints, answer: Ints, classes: int) -> ClassFigures:
    """Figures of answers `answer` where `truth` is right, both class indices."""
    there = np.bincount(truth, minlength=classes)
    said = np.bincount(answer, minlength=classes)
    hit = np.bincount(truth[truth == answer], minlength=classes)
    occurs = there > 0
    recall = hit[occurs] / there[occurs]
    # F1 = 2 hits / (rows of the class + answers of the class).
    f1 = 2 * hit[occurs] / (there[occurs] + said[occurs])
    return ClassFigures(
        rows=len(truth),
        accuracy=float(hit.sum() / max(1, len(truth))),
        macro_recall=float(recall.mean()) if occurs.any() else 0.0,
        macro_f1=float(f1.mean()) if occurs.any() else 0.0,
    )


def roc_auc(truth: Ints, score: Floats) -> float | None:
    """Probability that a positive row scores above a negative one; ties count half."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    _, where, count = np.unique(score, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(count)
    rank = (last_rank - (count - 1) / 2)[where]
    above = rank[truth == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _curve(truth: Ints, score: Floats) -> tuple[Floats, Floats, Floats]:
    """Thresholds falling, and the true positives and positive answers at each."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return score[order][ends], np.cumsum(truth[order])[ends].astype(np.float64), ends + 1.0


def average_precision(truth: Ints, score: Floats) -> float | None:
    """Mean precision over the steps in recall."""
    positives = int(truth.sum())
    if not positives or positives == len(truth):
        return None
    _, true_positives, answers = _curve(truth, score)
    steps = np.diff(true_positives / positives, prepend=0.0)
    return float((steps * true_positives / answers).sum())


def detection_figures(truth: Ints, score: Floats) -> DetectionFigures:
    """Figures of a score where `truth` is 1 for yes and 0 for no."""
    return DetectionFigures(
        rows=len(truth),
        positives=int(truth.sum()),
        roc_auc=roc_auc(truth, score),
        average_precision=average_precision(truth, score),
    )


def at_threshold(truth: Ints, score: Floats, threshold: float) -> ThresholdFigures:
    """Precision, recall and F1 of the answer "score at or over threshold"."""
    said = score >= np.float32(threshold)
    hit = int(truth[said].sum())
    answers, positives = int(said.sum()), int(truth.sum())
    return ThresholdFigures(
        threshold=threshold,
        precision=hit / answers if answers else 0.0,
        recall=hit / positives if positives else 0.0,
        f1=2 * hit / (answers + positives) if answers + positives else 0.0,
    )


def calibration_error(right: NDArray[Any], said: Floats, bins: int = 15) -> float:
    """Expected calibration error: how far what was said is from how often it was so.

    Over equally wide bins of the probability `said`, each weighed by its rows (Naeini et al. 2015);
    `right` is 1 where it was so, else 0.
    """
    if not len(said):
        return 0.0
    place = np.minimum((np.asarray(said, np.float64) * bins).astype(np.intp), bins - 1)
    gap = np.bincount(place, weights=np.asarray(said, np.float64) - right, minlength=bins)
    return float(np.abs(gap).sum() / len(said))


def best_f1_threshold(truth: Ints, score: Floats, min_precision: float = 0.0) -> float | None:
    """The threshold of the largest F1, to three decimals; of equals the highest.

    Only thresholds with at least `min_precision` count; None where there is none.
    """
    if not truth.any():
        return None
    thresholds, true_positives, answers = _curve(truth, score)
    f1 = 2 * true_positives / (answers + truth.sum())
    f1[true_positives < min_precision * answers] = -1.0
    best = int(f1.argmax())
    if f1[best] <= 0.0:
        return None
    # Down to three decimals, so that the row the threshold comes from still reaches it.
    return float(np.floor(np.float64(thresholds[best]) * 1000) / 1000)
