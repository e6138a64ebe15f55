"""Turns scores into probabilities that come true as often as they say, fitted on dev rows.

Invariant: a fit never changes an order. A softmax head keeps its answers, a sigmoid label its
ranking (`models.curves`), so quality figures without a threshold are the same before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.curves import Curve
from models.manifest import Head, LanguageThreshold, Measured
from models.metrics import at_threshold, best_f1_threshold, calibration_error

#: Rows of one class that a label needs before its scores are calibrated at all, and before a
#: curve of more than two points is tried.
MIN_FOR_LINE: Final = 10
MIN_FOR_ISOTONIC: Final = 100
#: Dev rows, and rows of each class among them, from which on a language has its own threshold.
MIN_LANGUAGE_ROWS: Final = 300
MIN_LANGUAGE_CLASS: Final = 50
#: Precision on dev that a threshold must reach.
MIN_PRECISION: Final = 0.5
#: How much lower the log loss of folds must be before isotonic is preferred to a line.
_WORTH_MORE_POINTS: Final = 0.002
_FOLDS: Final = 5
_BINS: Final = 20
_NEWTON_STEPS: Final = 50
Floats = NDArray[np.float64]
Fit = Callable[[Floats, Floats], Curve]


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """How well scores came true on dev, before and after; `after` is of rows the fit had not seen.

    Expected calibration error over 15 equally wide bins; of a softmax head for the probability of its answer.
    """

    method: str
    rows: int
    before: float
    after: float


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.integer[Any]]) -> float:
    """The temperature with the least log loss (Guo et al. 2017), to three decimals."""
    own = logits[np.arange(len(truth)), truth].astype(np.float64)
    raw = logits.astype(np.float64)

    def loss(temperature: float) -> float:
        scaled = raw / temperature
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((log_sum - own / temperature).mean())

    # The log loss has one minimum in 1 / temperature: halve the bracket by the golden section.
    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(float(np.exp(left))), loss(float(np.exp(right)))
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(float(np.exp(left)))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(float(np.exp(right)))
    return round(float(np.exp((low + high) / 2)), 3)


def fit_line(logits: Floats, truth: Floats) -> Curve:
    """Platt's line: logistic regression on the logit, with his smoothed targets (Platt 1999).

    A line that would fall or lie flat becomes one that hardly rises: the order stays.
    """
    positives = truth.sum()
    targets = np.where(
        truth > 0, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2)
    )
    inputs = np.stack([logits, np.ones_like(logits)], axis=1)
    line = np.array([1.0, 0.0])
    for _ in range(_NEWTON_STEPS):
        said = _sigmoid(inputs @ line)
        gradient = inputs.T @ (said - targets)
        weight = np.maximum(said * (1 - said), 1e-9)
        step = np.linalg.solve((inputs * weight[:, None]).T @ inputs + 1e-6 * np.eye(2), gradient)
        # Newton may overshoot where the classes are far apart.
        line = line - step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(line[0]), 0.05)
    ends = np.array([-10.0, 10.0])
    return _curve("linear", ends, slope * ends + line[1])


def fit_isotonic(logits: Floats, truth: Floats) -> Curve:
    """Isotonic regression through the means of bins, joined by straight lines.

    The pool-adjacent-violators steps would give every row of a step one score, and thresholds
    could not part them; lines between the steps' middles do not. Beyond the ends the slope is 1.
    """
    order = np.argsort(logits, kind="stable")
    # Half of a bin's fill are positives: where they are rare, bins are fine where they lie.
    fill = np.where(truth > 0, 0.5 / truth.sum(), 0.5 / (len(truth) - truth.sum()))[order]
    cuts = np.searchsorted(np.cumsum(fill), np.arange(1, _BINS) / _BINS)
    bins = [ids for ids in np.split(order, cuts) if len(ids)]
    pools: list[tuple[float, float, float]] = []
    for ids in bins:
        pool = (float(len(ids)), float(logits[ids].sum()), float(truth[ids].sum()))
        pools.append(pool)
        while len(pools) > 1 and _level(pools[-2]) >= _level(pools[-1]):
            last, before = pools.pop(), pools.pop()
            pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    raw = np.array([pool[1] / pool[0] for pool in pools])
    to = np.array([_level(pool) for pool in pools])
    rises = np.append(True, (np.diff(raw) > 1e-3) & (np.diff(to) > 1e-3))
    raw, to = raw[rises], to[rises]
    return _curve(
        "isotonic",
        np.concatenate([[raw[0] - 1], raw, [raw[-1] + 1]]),
        np.concatenate([[to[0] - 1], to, [to[-1] + 1]]),
    )


def _level(pool: tuple[float, float, float]) -> float:
    """The logit of a pool's share of positives, half a row of each class added."""
    rows, _, positives = pool
    return float(np.log((positives + 0.5) / (rows - positives + 0.5)))


def _curve(method: Any, raw: Floats, to: Floats) -> Curve:
    return Curve(method=method, raw=raw.round(4).tolist(), calibrated=to.round(4).tolist())


def fit_curve(logits: Floats, truth: Floats) -> tuple[Curve, Calibrated] | None:
    """The better of line and isotonic curve by the log loss of folds; None with too few rows."""
    rarer = int(min(truth.sum(), len(truth) - truth.sum()))
    if rarer < MIN_FOR_LINE:
        return None
    line = _held_out(fit_line, logits, truth)
    fit, held_out = fit_line, line
    if rarer >= MIN_FOR_ISOTONIC:
        isotonic = _held_out(fit_isotonic, logits, truth)
        if _log_loss(isotonic, truth) < _log_loss(line, truth) - _WORTH_MORE_POINTS:
            fit, held_out = fit_isotonic, isotonic
    curve = fit(logits, truth)
    return curve, Calibrated(
        method=curve.method,
        rows=len(truth),
        before=calibration_error(truth, _sigmoid(logits)),
        after=calibration_error(truth, held_out),
    )


def _folds(rows: int) -> NDArray[np.intp]:
    """The fold of each row, drawn once and for all."""
    return np.random.default_rng(0).permutation(rows) % _FOLDS


def _held_out(fit: Fit, logits: Floats, truth: Floats) -> Floats:
    """Each row's probability by a fit on the other folds."""
    folds = _folds(len(logits))
    said = np.empty(len(logits))
    for fold in range(_FOLDS):
        mine = folds == fold
        said[mine] = _sigmoid(fit(logits[~mine], truth[~mine])(logits[mine]))
    return said


def _log_loss(said: Floats, truth: Floats) -> float:
    safe = np.clip(said, 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(safe) + (1 - truth) * np.log(1 - safe)).mean())


def _sigmoid(logits: Floats) -> Floats:
    said: Floats = (np.tanh(logits * 0.5) + 1.0) * 0.5
    return said


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    said: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return said


def calibrate_softmax(
    head: Head, logits: NDArray[np.float32], truth: NDArray[np.integer[Any]]
) -> tuple[Head, Calibrated]:
    """`head` with its temperature; `logits` are its own columns, `truth` class indices.

    A head whose calibration error no temperature lowers on unseen rows keeps 1.
    """
    folds = _folds(len(truth))
    right = (logits.argmax(axis=1) == truth).astype(np.float64)
    held_out = np.empty(len(truth))
    for fold in range(_FOLDS):
        mine = folds == fold
        temperature = fit_temperature(logits[~mine], truth[~mine])
        held_out[mine] = _softmax(logits[mine].astype(np.float64) / temperature).max(axis=1)
    before = calibration_error(right, _softmax(logits.astype(np.float64)).max(axis=1))
    after = calibration_error(right, held_out)
    if after >= before:
        # The log loss may fall while what is said comes true less often.
        return head, Calibrated(method="none", rows=len(truth), before=before, after=before)
    return msgspec.structs.replace(head, temperature=fit_temperature(logits, truth)), Calibrated(
        method="temperature", rows=len(truth), before=before, after=after
    )


def calibrate_sigmoid(
    head: Head, logits: NDArray[np.float32], truth: NDArray[np.integer[Any]]
) -> tuple[Head, dict[str, Calibrated]]:
    """`head` with a curve for each label that has enough rows; `truth` has -1 for unknown."""
    curves, figures = {}, {}
    for column, label in enumerate(head.labels):
        known = truth[:, column] >= 0
        found = fit_curve(
            logits[known, column].astype(np.float64), truth[known, column].astype(np.float64)
        )
        if found is not None:
            curves[label], figures[label] = found
    return msgspec.structs.replace(head, curves=curves), figures


def language_thresholds(
    head: Head,
    probabilities: NDArray[np.float32],
    truth: NDArray[np.integer[Any]],
    langs: Sequence[str],
) -> dict[str, dict[str, LanguageThreshold]]:
    """For each language with enough rows the threshold of the largest F1 on them, by label.

    Args:
        head: gives the labels.
        probabilities: calibrated, (rows, labels).
        truth: (rows, labels), -1 for unknown.
        langs: of the rows.
    """
    spoken = np.array(langs)
    found: dict[str, dict[str, LanguageThreshold]] = {}
    for lang in sorted(set(langs)):
        for column, label in enumerate(head.labels):
            mine = (spoken == lang) & (truth[:, column] >= 0)
            there, score = truth[mine, column], probabilities[mine, column]
            rarer = min(int(there.sum()), int(len(there) - there.sum()))
            if len(there) < MIN_LANGUAGE_ROWS or rarer < MIN_LANGUAGE_CLASS:
                continue
            best = best_f1_threshold(there, score, MIN_PRECISION)
            if best is not None:
                at = at_threshold(there, score, best)
                found.setdefault(lang, {})[label] = LanguageThreshold(
                    threshold=best,
                    precision=round(at.precision, 3),
                    recall=round(at.recall, 3),
                    rows=len(there),
                    positives=int(there.sum()),
                )
    return found


def measured_thresholds(
    thresholds: Mapping[str, float],
    head: Head,
    probabilities: NDArray[np.float32],
    truth: NDArray[np.integer[Any]],
) -> dict[str, Measured]:
    """What each label's threshold for all languages gave on the rows that know the label."""
    measured = {}
    for column, label in enumerate(head.labels):
        known = truth[:, column] >= 0
        at = at_threshold(truth[known, column], probabilities[known, column], thresholds[label])
        measured[label] = Measured(
            precision=round(at.precision, 3),
            recall=round(at.recall, 3),
            rows=int(known.sum()),
            positives=int(truth[known, column].sum()),
        )
    return measured
