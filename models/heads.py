"""From logits to answers: probabilities per head, the label, and what is not to be trusted.

Everything is computed on whole arrays; a row's answer depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import LANGUAGE_TASK, UNDETERMINED, Head
from models.scores import DECIMALS, Prepared, TaskScore, TextScores

#: A sigmoid head's answer when no label reaches its threshold.
NO_LABEL: Final = "none"
#: Probability from which on a text's language is taken for known. Below it, as for a few words,
#: nothing is said about whether the other tasks know the language.
SURE_OF_LANGUAGE: Final = 0.5


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis; safe for any finite logits."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, each logit for itself; tanh does not overflow where exp would."""
    probabilities: NDArray[np.float32] = (np.tanh(logits * 0.5) + 1.0) * 0.5
    return probabilities


def _rounded(probabilities: NDArray[np.float32]) -> Any:
    """As Python numbers with `DECIMALS`: on whole arrays, because one at a time costs 100 times more."""
    return probabilities.astype(np.float64).round(DECIMALS).tolist()


class HeadReader:
    """Reads one head's slice of the logits.

    Args:
        head: the head, its slice counted within `logits` as given to `read`.
        offset: where its model's logits begin among those of all models.
    """

    def __init__(self, head: Head, offset: int = 0) -> None:
        self.head = head
        self.columns = slice(offset + head.slice[0], offset + head.slice[1])
        self._labels = head.labels
        self._curves = {head.labels.index(label): curve for label, curve in head.curves.items()}
        self._top = head.top if 0 < head.top < len(head.labels) else 0

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """This head's calibrated probabilities, shape (texts, labels)."""
        part = logits[:, self.columns]
        if self.head.activation == "softmax":
            return softmax(part / np.float32(self.head.temperature))
        if self._curves:
            part = part.copy()
            for column, curve in self._curves.items():
                part[:, column] = curve(part[:, column])
        return sigmoid(part)

    def thresholds(self, lang: str | None = None) -> NDArray[np.float32]:
        """The threshold of each label for texts in the language `lang`; None: in any."""
        own = self.head.by_language.get(lang, {}) if lang is not None else {}
        general = self.head.thresholds
        return np.array(
            [
                own[label].threshold if label in own else general.get(label, 0.0)
                for label in self._labels
            ],
            dtype=np.float32,
        )

    def read(
        self,
        probabilities: NDArray[np.float32],
        unsupported: Sequence[bool],
        thresholds: NDArray[np.float32] | None = None,
    ) -> list[TaskScore]:
        """The answers, one a row of `probabilities`.

        `thresholds` are of the labels, shape (labels,) or (texts, labels); None: the head's own
        for any language.
        """
        if thresholds is None:
            thresholds = self.thresholds()
        labels, scores = self._answers(probabilities, thresholds)
        return [
            TaskScore(label, score, named, off)
            for label, score, named, off in zip(
                labels, scores, self._named(probabilities), unsupported, strict=True
            )
        ]

    def label_indices(
        self, probabilities: NDArray[np.float32], thresholds: NDArray[np.float32] | None = None
    ) -> NDArray[np.intp]:
        """The index of each row's label, -1 for `none` (sigmoid) or `und` (softmax)."""
        best: NDArray[np.intp]
        if self.head.activation == "softmax":
            best = probabilities.argmax(axis=1)
            doubtful = probabilities.max(axis=1, initial=0.0) < self.head.undetermined
            return np.where(doubtful, -1, best)
        if thresholds is None:
            thresholds = self.thresholds()
        reached = np.where(probabilities >= thresholds, probabilities, -1.0)
        best = reached.argmax(axis=1)
        return np.where(reached.max(axis=1, initial=-1.0) >= 0.0, best, -1)

    def _answers(
        self, probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]
    ) -> tuple[list[str], list[float]]:
        # The name for -1 is the last.
        names = [*self._labels, UNDETERMINED if self.head.activation == "softmax" else NO_LABEL]
        labels = [names[i] for i in self.label_indices(probabilities, thresholds).tolist()]
        return labels, _rounded(probabilities.max(axis=1, initial=0.0))

    def _named(self, probabilities: NDArray[np.float32]) -> list[dict[str, float]]:
        if not self._top:
            names = self._labels
            return [dict(zip(names, row, strict=True)) for row in _rounded(probabilities)]
        part = np.argpartition(-probabilities, self._top - 1, axis=1)[:, : self._top]
        values = np.take_along_axis(probabilities, part, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        columns = np.take_along_axis(part, order, axis=1).tolist()
        ranked = _rounded(np.take_along_axis(values, order, axis=1))
        names = self._labels
        return [
            {names[i]: value for i, value in zip(ids, row, strict=True)}
            for ids, row in zip(columns, ranked, strict=True)
        ]


class HeadSet:
    """All heads of a preset; `finish` is the last stage of scoring."""

    def __init__(self, readers: Mapping[str, HeadReader]) -> None:
        self._readers = dict(readers)
        self._known: dict[str, NDArray[np.bool_]] = {}
        self._thresholds: dict[str, NDArray[np.float32]] = {}
        language = self._readers.get(LANGUAGE_TASK)
        labels = [] if language is None else language.head.labels
        for task, reader in self._readers.items():
            head = reader.head
            if head.languages and labels:
                known = {*head.languages, UNDETERMINED}
                self._known[task] = np.array([label in known for label in labels])
            if not set(head.by_language).isdisjoint(labels):
                # The last row is for texts whose language is not sure.
                rows = [reader.thresholds(label) for label in labels]
                self._thresholds[task] = np.stack([*rows, reader.thresholds()])

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        """Every task's answer for every text, in the order of the rows of `logits`."""
        probabilities = {task: r.probabilities(logits) for task, r in self._readers.items()}
        spoken = np.full(len(logits), -1, dtype=np.intp)
        language = probabilities.get(LANGUAGE_TASK)
        if language is not None:
            sure = language.max(axis=1, initial=0.0) >= SURE_OF_LANGUAGE
            spoken = np.where(sure, language.argmax(axis=1), -1)
        answers: list[list[TaskScore]] = []
        for task, reader in self._readers.items():
            thresholds = self._thresholds.get(task)
            if thresholds is not None:
                thresholds = thresholds[spoken]
            answers.append(
                reader.read(probabilities[task], self._unsupported(task, spoken), thresholds)
            )
        tasks = tuple(self._readers)
        return [
            TextScores(dict(zip(tasks, row, strict=True)), truncated, cleaned)
            for row, truncated, cleaned in zip(
                zip(*answers, strict=True), prepared.truncated, prepared.cleaned, strict=True
            )
        ]

    def _unsupported(self, task: str, language: NDArray[np.intp]) -> list[bool]:
        """Where the text's language (index, -1: not sure) is one that the task does not claim."""
        known = self._known.get(task)
        if known is None:
            return [False] * len(language)
        off: list[bool] = ((language >= 0) & ~known[language]).tolist()
        return off
