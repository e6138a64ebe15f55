"""From logits to answers: probabilities per head, the label, and what is not to be trusted.

Everything is computed on whole arrays; a row's answer depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest import LANGUAGE_TASK, Head
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
        self._thresholds = np.array(
            [head.thresholds.get(label, 0.0) for label in head.labels], dtype=np.float32
        )
        self._top = head.top if 0 < head.top < len(head.labels) else 0

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """This head's probabilities, shape (texts, labels)."""
        part = logits[:, self.columns]
        return softmax(part) if self.head.activation == "softmax" else sigmoid(part)

    def read(
        self, probabilities: NDArray[np.float32], unsupported: Sequence[bool]
    ) -> list[TaskScore]:
        """The answers, one a row of `probabilities`."""
        labels, scores = self._answers(probabilities)
        return [
            TaskScore(label, score, named, off)
            for label, score, named, off in zip(
                labels, scores, self._named(probabilities), unsupported, strict=True
            )
        ]

    def _answers(self, probabilities: NDArray[np.float32]) -> tuple[list[str], list[float]]:
        if self.head.activation == "softmax":
            best = probabilities.argmax(axis=1)
            labels = [self._labels[i] for i in best.tolist()]
        else:
            reached = np.where(probabilities >= self._thresholds, probabilities, -1.0)
            best = reached.argmax(axis=1)
            some = reached.max(axis=1, initial=-1.0) >= 0.0
            labels = [
                self._labels[i] if ok else NO_LABEL
                for i, ok in zip(best.tolist(), some.tolist(), strict=True)
            ]
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
        language = self._readers.get(LANGUAGE_TASK)
        self._known: dict[str, NDArray[np.bool_]] = {}
        if language is not None:
            for task, reader in self._readers.items():
                if reader.head.languages:
                    known = set(reader.head.languages)
                    self._known[task] = np.array([x in known for x in language.head.labels])

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        """Every task's answer for every text, in the order of the rows of `logits`."""
        probabilities = {task: r.probabilities(logits) for task, r in self._readers.items()}
        no_doubt = [False] * len(logits)
        answers: list[list[TaskScore]] = []
        language = probabilities.get(LANGUAGE_TASK)
        for task, reader in self._readers.items():
            unsupported = no_doubt
            if language is not None and task in self._known:
                known = self._known[task][language.argmax(axis=1)]
                sure = language.max(axis=1, initial=0.0) >= SURE_OF_LANGUAGE
                unsupported = (sure & ~known).tolist()
            answers.append(reader.read(probabilities[task], unsupported))
        tasks = tuple(self._readers)
        return [
            TextScores(dict(zip(tasks, row, strict=True)), truncated, cleaned)
            for row, truncated, cleaned in zip(
                zip(*answers, strict=True), prepared.truncated, prepared.cleaned, strict=True
            )
        ]
