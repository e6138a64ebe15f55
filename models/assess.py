"""Measures one task of a model on a file of labelled texts: the figures that others publish, too.

Everything is scored through the scorer that the worker uses, so windows, second views and
calibration are in the figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ModelBuildError
from models.identity import IdentityFigures, identity_figures
from models.labelled import Labelled, read_labelled
from models.manifest import Head, Manifest
from models.metrics import (
    ClassFigures,
    DetectionFigures,
    ThresholdFigures,
    at_threshold,
    calibration_error,
    class_figures,
    detection_figures,
)
from models.scorer import OnnxScorer
from models.scores import ModelVersion

#: A slice with fewer rows than this is counted and not measured.
MIN_SLICE_ROWS: Final = 20
_CHUNK: Final = 1024
Probabilities = NDArray[np.float64]
#: Told how many texts are done, and of how many.
Report = Callable[[int, int], None]


class LabelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One label against all others; `at` is its threshold, or being the answer where it has none."""

    detection: DetectionFigures
    at: ThresholdFigures
    ece: float


class SliceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of some rows; `unsupported` is the share that the model marks as such."""

    rows: int
    macro_recall: float
    macro_f1: float
    accuracy: float
    roc_auc: float | None
    average_precision: float | None
    unsupported: float


class TaskEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured of one task.

    `all` for one answer: over classes. For several labels at once `macro_f1` and `macro_recall`
    are means over the labels at their thresholds, `accuracy` the share of right yes and no, and
    the AUC and average precision are those of the first label. `confusion`: rows are truths,
    columns answers; for several labels `none` stands for no label.
    `ece`: of the answer's probability, or of the first label's.
    """

    model: str
    version: str
    task: str
    data: str
    rows: int
    several: bool
    all: SliceFigures
    ece: float
    labels: dict[str, LabelFigures]
    confusion_labels: list[str]
    confusion: list[list[int]]
    slices: dict[str, dict[str, SliceFigures]]
    identity: list[IdentityFigures]
    posts_per_s: float
    truncated: int


@dataclass(frozen=True, slots=True)
class Assessed:
    """The figures, and what they are made of, for plots: (rows, labels) both."""

    figures: TaskEvaluation
    probabilities: Probabilities
    truth: NDArray[np.intp]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the model said of every row."""

    probabilities: Probabilities
    labels: list[str]
    unsupported: NDArray[np.bool_]
    truncated: int
    seconds: float


def assess(
    manifest: Manifest,
    model: str,
    task: str,
    data: Path,
    *,
    slices: Sequence[str] = ("lang",),
    threads: int = 0,
    device: str = "auto",
    second_views: bool = True,
    alone: bool = False,
    report: Report = lambda _done, _all: None,
) -> Assessed:
    """Measure `task` of the model or preset `model` on the file `data`.

    Args:
        manifest: where the model is described.
        model: its name in it, or a preset's.
        task: one of its tasks.
        data: TSV or JSON lines (`models.labelled`).
        slices: columns by whose values the figures are also given.
        threads: of a session; 0: every core.
        device: as the setting `models.device`.
        second_views: as the setting of that name.
        alone: load the model that answers the task and none beside it; then nothing is marked
            `unsupported`.
        report: told how many texts are done, and of how many.

    Raises:
        ModelBuildError: the file does not fit, or the model has no such task.
        ModelError: the model cannot be loaded or run.
    """
    single = model in manifest.models and (alone or model not in manifest.presets)
    preset = _alone(manifest, model) if single else manifest
    members = preset.preset(model)
    owner = next((m for m in members.values() if task in m.heads), None)
    if owner is None:
        known = ", ".join(f"`{t}`" for m in members.values() for t in m.heads)
        raise ModelBuildError(f"`{model}` has no task `{task}`", hint=f"it has {known}")
    head = owner.heads[task]
    rows = read_labelled(data, task, head.labels, several=head.activation == "sigmoid")
    scorer = OnnxScorer(preset, model, device=device, threads=threads, second_views=second_views)
    answers = _score(scorer, task, head, [row.text for row in rows], report)
    version = ModelVersion(owner.id, owner.version)
    return _figures(version, f"{task} {data.name}", head, _Rows(rows, answers), slices)


def _alone(manifest: Manifest, name: str) -> Manifest:
    manifest.model(name)
    return msgspec.structs.replace(manifest, presets={name: [name]})


def _score(
    scorer: OnnxScorer, task: str, head: Head, texts: Sequence[str], report: Report
) -> _Answers:
    probabilities = np.zeros((len(texts), len(head.labels)))
    column = {label: i for i, label in enumerate(head.labels)}
    said: list[str] = []
    unsupported = np.zeros(len(texts), dtype=bool)
    truncated, seconds = 0, 0.0
    reader = scorer.reader(task)
    for start in range(0, len(texts), _CHUNK):
        piece = texts[start : start + _CHUNK]
        began = time.perf_counter()
        prepared = scorer.prepare(piece)
        logits = scorer.infer(prepared)
        scores = scorer.finish(prepared, logits)
        seconds += time.perf_counter() - began
        # All labels' probabilities: an answer may carry the first few only.
        probabilities[start : start + len(piece)] = reader.probabilities(logits)
        for i, answer in enumerate(scores, start):
            said.append(answer.tasks[task].label)
            unsupported[i] = answer.tasks[task].unsupported
            truncated += answer.truncated
        report(start + len(piece), len(texts))
    assert set(said) <= {*column, "none", "und"}
    return _Answers(probabilities, said, unsupported, truncated, seconds)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows and what the model said of them."""

    rows: Sequence[Labelled]
    answers: _Answers

    @property
    def truth(self) -> NDArray[np.intp]:
        return np.array([row.truth for row in self.rows], dtype=np.intp)


def _figures(
    model: ModelVersion, what: str, head: Head, measured: _Rows, slices: Sequence[str]
) -> Assessed:
    rows, answers, truth = measured.rows, measured.answers, measured.truth
    task, _, data = what.partition(" ")
    several = head.activation == "sigmoid"
    chance = answers.probabilities
    figures = TaskEvaluation(
        model=model.id,
        version=model.version,
        task=task,
        data=data,
        rows=len(rows),
        several=several,
        all=_slice(head, truth, answers, np.arange(len(rows))),
        ece=_ece(truth, chance, several=several),
        labels=_label_figures(head, truth, chance),
        **_confusion(head, truth, answers.labels),
        slices={name: _slices(head, measured, name) for name in slices},
        identity=_identity(head, rows, truth, chance) if several else [],
        posts_per_s=round(len(rows) / answers.seconds, 1) if answers.seconds else 0.0,
        truncated=answers.truncated,
    )
    return Assessed(figures, chance, truth, list(head.labels))


def _slices(head: Head, measured: _Rows, name: str) -> dict[str, SliceFigures]:
    groups: dict[str, list[int]] = {}
    truth = measured.truth
    for i, row in enumerate(measured.rows):
        groups.setdefault(row.fields.get(name, "not said"), []).append(i)
    return {
        value: _slice(head, truth, measured.answers, np.array(ids))
        for value, ids in sorted(groups.items())
        if len(ids) >= MIN_SLICE_ROWS
    }


def _slice(
    head: Head, truth: NDArray[np.intp], answers: _Answers, ids: NDArray[np.intp]
) -> SliceFigures:
    unsupported = float(answers.unsupported[ids].mean())
    chance = answers.probabilities[ids]
    if head.activation == "softmax":
        classes = _classes(head, truth[ids], [answers.labels[i] for i in ids.tolist()])
        return SliceFigures(
            rows=len(ids), macro_recall=classes.macro_recall, macro_f1=classes.macro_f1,
            accuracy=classes.accuracy, roc_auc=None, average_precision=None,
            unsupported=unsupported,
        )  # fmt: skip
    at, right, known_of_all = [], 0, 0
    for column, label in enumerate(head.labels):
        known = truth[ids, column] >= 0
        yes, score = truth[ids, column][known], chance[known, column]
        if yes.any():
            at.append(at_threshold(yes, score, head.thresholds[label]))
        right += int(((score >= np.float32(head.thresholds[label])) == (yes == 1)).sum())
        known_of_all += int(known.sum())
    known = truth[ids, 0] >= 0
    first = detection_figures(truth[ids, 0][known], chance[known, 0])
    return SliceFigures(
        rows=len(ids),
        macro_recall=float(np.mean([f.recall for f in at])) if at else 0.0,
        macro_f1=float(np.mean([f.f1 for f in at])) if at else 0.0,
        accuracy=right / known_of_all if known_of_all else 0.0,
        roc_auc=first.roc_auc,
        average_precision=first.average_precision,
        unsupported=unsupported,
    )


def _classes(head: Head, truth: NDArray[np.intp], said: Sequence[str]) -> ClassFigures:
    """Figures of the answers as given; one that is no label (`und`) is wrong."""
    index = {label: i for i, label in enumerate(head.labels)}
    answer = np.array([index.get(label, len(index)) for label in said], dtype=np.intp)
    return class_figures(truth, answer, len(index) + 1)


def _ece(truth: NDArray[np.intp], chance: Probabilities, *, several: bool) -> float:
    if several:
        known = truth[:, 0] >= 0
        return calibration_error(truth[known, 0], chance[known, 0])
    right = (chance.argmax(axis=1) == truth).astype(np.intp)
    return calibration_error(right, chance.max(axis=1))


def _label_figures(
    head: Head, truth: NDArray[np.intp], chance: Probabilities
) -> dict[str, LabelFigures]:
    figures = {}
    answer = chance.argmax(axis=1)
    for column, label in enumerate(head.labels):
        if head.activation == "sigmoid":
            known = truth[:, column] >= 0
            yes, score = truth[known, column], chance[known, column]
            at = at_threshold(yes, score, head.thresholds[label])
        else:
            yes, score = (truth == column).astype(np.intp), chance[:, column]
            at = at_threshold(yes, (answer == column).astype(np.float64), 0.5)
        if len(head.labels) > 12 and not yes.any():
            continue  # a language without rows
        figures[label] = LabelFigures(
            detection=detection_figures(yes, score), at=at, ece=calibration_error(yes, score)
        )
    return figures


def _confusion(head: Head, truth: NDArray[np.intp], said: Sequence[str]) -> Mapping[str, Any]:
    """Truths against answers; the truth of several labels is the first that is true."""
    names = [*head.labels, "none"] if head.activation == "sigmoid" else list(head.labels)
    if "und" in said:
        names.append("und")
    index = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.intp)
    for right, answer in zip(truth, said, strict=True):
        if head.activation == "sigmoid":
            if answer in head.labels and right[index[answer]] < 0:
                continue  # nobody knows whether that is so
            true = np.flatnonzero(right == 1)
            # Among several true labels the one that was said is right.
            row = index.get(answer, -1) if index.get(answer, -1) in true else -1
            row = row if row >= 0 else (int(true[0]) if len(true) else index["none"])
        else:
            row = int(right)
        counts[row, index[answer]] += 1
    used = (
        np.arange(len(names))
        if len(names) <= 12
        else np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    )
    return {
        "confusion_labels": [names[i] for i in used.tolist()],
        "confusion": counts[np.ix_(used, used)].tolist(),
    }


def _identity(
    head: Head, rows: Sequence[Labelled], truth: NDArray[np.intp], chance: Probabilities
) -> list[IdentityFigures]:
    figures = []
    for label in ("toxic", "identity_attack"):
        if label not in head.labels:
            continue
        column = head.labels.index(label)
        known = np.flatnonzero(truth[:, column] >= 0)
        figures.append(
            identity_figures(
                label,
                [rows[i].text for i in known.tolist()],
                truth[known, column],
                chance[known, column],
                head.thresholds[label],
            )
        )
    return figures
