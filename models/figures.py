"""Dev figures of each task, and what is chosen by them: thresholds, measured languages.

Everything here is a function of dev rows and the probabilities that a model gave them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.manifest import Head
from models.metrics import (
    ClassFigures,
    DetectionFigures,
    ThresholdFigures,
    at_threshold,
    best_f1_threshold,
    class_figures,
    detection_figures,
    recalls,
)
from models.training.data import Row

Probabilities = NDArray[np.float32]

#: A task does not claim a language with fewer dev rows than this, or with figures near chance
#: (a third for sentiment, a half for toxicity).
MIN_LANGUAGE_ROWS: Final = 100
MIN_MACRO_RECALL: Final = 0.5
MIN_ROC_AUC: Final = 0.7
MIN_RECOGNISED_ROWS: Final = 10
#: Precision on dev that a threshold must reach, and the threshold where none does.
MIN_PRECISION: Final = 0.5
UNKNOWN_THRESHOLD: Final = 0.5
_CONFUSIONS = 15


class SentimentFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Sentiment, over all rows and by what they come from."""

    all: ClassFigures
    by_source: dict[str, ClassFigures]
    by_language: dict[str, ClassFigures]


class ToxicityLabel(msgspec.Struct, frozen=True, kw_only=True):
    """One toxicity label: `at` is its own threshold on the same rows."""

    all: DetectionFigures
    english: DetectionFigures
    at: ThresholdFigures


class ToxicityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Toxicity; the tables by source and language are of the first label, `toxic`."""

    labels: dict[str, ToxicityLabel]
    by_source: dict[str, DetectionFigures]
    by_language: dict[str, DetectionFigures]


class Confusion(msgspec.Struct, frozen=True):
    """How often a language was taken for another."""

    truth: str
    answer: str
    rows: int


class LanguageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Language; `by_language` is recall and rows."""

    all: ClassFigures
    labels: int
    by_source: dict[str, ClassFigures]
    by_language: dict[str, tuple[float, int]]
    confusions: list[Confusion]


def _by(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, NDArray[np.intp]]:
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(key(row), []).append(i)
    return {name: np.array(groups[name]) for name in sorted(groups)}


def sentiment_figures(rows: Sequence[Row], probabilities: Probabilities) -> SentimentFigures:
    """Figures of the sentiment head on its dev rows."""
    truth = np.array([row.target for row in rows])
    answer = probabilities.argmax(axis=1)
    classes = probabilities.shape[1]

    def part(ids: NDArray[np.intp]) -> ClassFigures:
        return class_figures(truth[ids], answer[ids], classes)

    return SentimentFigures(
        all=class_figures(truth, answer, classes),
        by_source={name: part(ids) for name, ids in _by(rows, lambda r: r.source).items()},
        by_language={name: part(ids) for name, ids in _by(rows, lambda r: r.lang).items()},
    )


def toxicity_figures(
    rows: Sequence[Row], probabilities: Probabilities, head: Head
) -> ToxicityFigures:
    """Figures of the toxicity head on its dev rows; unknown truths (-1) are left out."""
    truth = np.array([row.target for row in rows])
    english = np.array([row.lang == "en" for row in rows])

    def part(column: int, ids: NDArray[Any]) -> DetectionFigures:
        known = ids & (truth[:, column] >= 0)
        return detection_figures(truth[known, column], probabilities[known, column])

    def table(key: Callable[[Row], str]) -> dict[str, DetectionFigures]:
        figures = {}
        for name, ids in _by(rows, key).items():
            chosen = np.zeros(len(rows), dtype=bool)
            chosen[ids] = True
            figures[name] = part(0, chosen)
        return figures

    labels = {}
    for column, label in enumerate(head.labels):
        known = truth[:, column] >= 0
        labels[label] = ToxicityLabel(
            all=part(column, np.ones(len(rows), dtype=bool)),
            english=part(column, english),
            at=at_threshold(
                truth[known, column], probabilities[known, column], head.thresholds[label]
            ),
        )
    return ToxicityFigures(
        labels=labels,
        by_source=table(lambda row: row.source),
        by_language=table(lambda row: row.lang),
    )


def language_figures(
    rows: Sequence[Row], probabilities: Probabilities, labels: Sequence[str]
) -> LanguageFigures:
    """Figures of the language head on its dev rows."""
    truth = np.array([row.target for row in rows])
    answer = probabilities.argmax(axis=1)
    wrong = Counter(
        zip(truth[truth != answer].tolist(), answer[truth != answer].tolist(), strict=True)
    )
    rows_of = np.bincount(truth, minlength=len(labels)).tolist()
    return LanguageFigures(
        all=class_figures(truth, answer, len(labels)),
        labels=len(labels),
        by_source={
            name: class_figures(truth[ids], answer[ids], len(labels))
            for name, ids in _by(rows, lambda row: row.source).items()
        },
        by_language={
            label: (recall, count)
            for label, recall, count in zip(
                labels, recalls(truth, answer, len(labels)), rows_of, strict=True
            )
            if recall is not None
        },
        confusions=[
            Confusion(labels[a], labels[b], count)
            for (a, b), count in wrong.most_common(_CONFUSIONS)
        ],
    )


def choose_thresholds(
    rows: Sequence[Row], probabilities: Probabilities, head: Head
) -> dict[str, float]:
    """For every toxicity label the threshold of the largest F1 on the dev rows that know it.

    Among thresholds at which at least half of the answers are right: a label that is learnt
    badly must not be said of every third post.
    """
    truth = np.array([row.target for row in rows])
    thresholds = {}
    for column, label in enumerate(head.labels):
        known = truth[:, column] >= 0
        best = best_f1_threshold(truth[known, column], probabilities[known, column], MIN_PRECISION)
        thresholds[label] = UNKNOWN_THRESHOLD if best is None else best
    return thresholds


def sentiment_languages(figures: SentimentFigures) -> list[str]:
    """Languages with enough dev rows on which the answers are clearly better than chance."""
    return [
        lang
        for lang, part in figures.by_language.items()
        if part.rows >= MIN_LANGUAGE_ROWS and part.macro_recall >= MIN_MACRO_RECALL
    ]


def toxicity_languages(figures: ToxicityFigures) -> list[str]:
    """Languages with enough dev rows on which `toxic` is clearly better than chance."""
    return [
        lang
        for lang, part in figures.by_language.items()
        if part.rows >= MIN_LANGUAGE_ROWS and (part.roc_auc or 0.0) >= MIN_ROC_AUC
    ]


def recognised_languages(figures: LanguageFigures) -> list[str]:
    """Languages with dev rows of their own."""
    return [lang for lang, (_, rows) in figures.by_language.items() if rows >= MIN_RECOGNISED_ROWS]
