"""Draws what an evaluation measured: reliability, confusion, precision against recall. Needs matplotlib.

Figures are drawn off screen; files of the same name are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.assess import Assessed
from models.errors import ModelBuildError

_BINS: Final = 10
#: Labels that are drawn: the first ones, and of a language task those with the most rows.
_MOST_LABELS: Final = 8
_MOST_CELLS: Final = 30


def write_plots(assessed: Assessed, folder: Path) -> list[Path]:
    """Write the three plots as PNG into `folder`; returns the files.

    Raises:
        ModelBuildError: matplotlib is not installed, or the folder cannot be written to.
    """
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise ModelBuildError(
            "the plots need matplotlib, which is not installed",
            hint="`pip install 'tidegate[models]'`",
        ) from exc
    drawn = {
        "reliability": _reliability(Figure(figsize=(5, 5), layout="constrained"), assessed),
        "confusion": _confusion(Figure(figsize=(7, 6), layout="constrained"), assessed),
        "precision-recall": _precision_recall(
            Figure(figsize=(6, 5), layout="constrained"), assessed
        ),
    }
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            file = folder / f"{assessed.figures.task}-{name}.png"
            figure.savefig(file, dpi=120)
            files.append(file)
    except OSError as exc:
        raise ModelBuildError(f"cannot be written: {exc.strerror}", where=str(folder)) from exc
    return files


def reliability(
    right: NDArray[Any], said: NDArray[Any], bins: int = _BINS
) -> list[tuple[float, float, int]]:
    """Mean of what was said, how often it was so, and rows, of each bin that has rows."""
    place = np.minimum((np.asarray(said) * bins).astype(int), bins - 1)
    points = []
    for number in range(bins):
        here = place == number
        if here.any():
            points.append((float(said[here].mean()), float(right[here].mean()), int(here.sum())))
    return points


def precision_recall(truth: NDArray[Any], score: NDArray[Any]) -> list[tuple[float, float]]:
    """(recall, precision) at each distinct score, falling."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return [(float(hits[i] / hits[-1]), float(hits[i] / (i + 1))) for i in ends.tolist()]


def _columns(assessed: Assessed) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Label, truth and score of the labels worth drawing."""
    columns = []
    for i, label in enumerate(assessed.labels):
        score = assessed.probabilities[:, i]
        if assessed.figures.several:
            known = assessed.truth[:, i] >= 0
            columns.append((label, assessed.truth[known, i], score[known]))
        else:
            columns.append((label, (assessed.truth == i).astype(int), score))
    there = [column for column in columns if column[1].any()]
    if len(assessed.labels) > _MOST_LABELS:
        there.sort(key=lambda column: -int(column[1].sum()))
    return there[:_MOST_LABELS]


def _title(assessed: Assessed) -> str:
    figures = assessed.figures
    return f"{figures.model} {figures.version}: {figures.task}, {figures.rows:,} rows"


def _reliability(figure: Any, assessed: Assessed) -> Any:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="calibrated")
    if assessed.figures.several:
        lines: Sequence[tuple[str, NDArray[Any], NDArray[Any]]] = _columns(assessed)
    else:
        chance = assessed.probabilities
        right = (chance.argmax(axis=1) == assessed.truth).astype(int)
        lines = [("the answer", right, chance.max(axis=1))]
    for label, right, said in lines:
        points = reliability(right, said)
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", label=label)
    axes.set(xlabel="what was said", ylabel="how often it was so", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{_title(assessed)}\nECE {assessed.figures.ece:.3f}", fontsize=9)
    axes.legend(fontsize=8)
    return figure


def _confusion(figure: Any, assessed: Assessed) -> Any:
    axes = figure.subplots()
    counts = np.array(assessed.figures.confusion, dtype=float).reshape(
        len(assessed.figures.confusion_labels), -1
    )
    names = assessed.figures.confusion_labels
    if len(names) > _MOST_CELLS:
        # Of many languages those that are mixed up most.
        wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_CELLS])
        counts, names = counts[np.ix_(kept, kept)], [names[i] for i in kept.tolist()]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="share of the truth's rows")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= 12:
        for row in range(len(names)):
            for column in range(len(names)):
                axes.text(
                    column, row, f"{int(counts[row, column]):,}", ha="center", va="center",
                    fontsize=7, color="white" if shares[row, column] > 0.5 else "black",
                )  # fmt: skip
    axes.set(xlabel="answer", ylabel="truth")
    axes.set_title(_title(assessed), fontsize=9)
    return figure


def _precision_recall(figure: Any, assessed: Assessed) -> Any:
    axes = figure.subplots()
    for label, truth, score in _columns(assessed):
        points = precision_recall(truth, score)
        axes.step([p[0] for p in points], [p[1] for p in points], where="post", label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(_title(assessed), fontsize=9)
    axes.legend(fontsize=8)
    return figure
