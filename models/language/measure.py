"""Measures a language model: whole dev sentences, pieces of three words and of one, and speed.

Every figure comes from the graph as it ships, through the same code as the worker's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibrate import Calibrated, calibrate_softmax
from models.figures import LanguageFigures, language_figures
from models.heads import HeadReader, softmax
from models.language.gibberish import gibberish
from models.language.member import ngram_batches
from models.language.pieces import pieces
from models.language.vocabulary import Vocabulary
from models.manifest import UNDETERMINED, Head
from models.metrics import ClassFigures, calibration_error, class_figures
from models.session import GraphSession
from models.training.data import Row, TaskData, read_task

#: Words of the dev pieces that are measured beside whole sentences.
PIECES: Final = (3, 1)
#: Share of the right answers to single words that may be lost to `und`.
MAX_LOST: Final = 0.001
_GIBBERISH: Final = 2000
_CHUNK: Final = 2048
_SPEED_ROUNDS: Final = 5
Logits = NDArray[np.float32]


class Undetermined(msgspec.Struct, frozen=True, kw_only=True):
    """How often `und` is said, and the probability under which it is."""

    threshold: float
    gibberish: float
    sentences: float
    three_words: float
    one_word: float


class LanguageModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured of one language model; `und` counts as a wrong answer.

    `calibration` is of sentences and pieces together, `errors` the calibration error of each.
    """

    version: str
    bytes: int
    sentences: LanguageFigures
    three_words: ClassFigures
    one_word: ClassFigures
    undetermined: Undetermined
    calibration: Calibrated
    errors: dict[str, float]
    texts_per_s: float
    threads: int


class LanguageGraph:
    """The graph with its vocabulary, as a scorer uses them."""

    def __init__(self, graph: Path, vocabulary: Path, threads: int) -> None:
        self.session = GraphSession(graph, device="cpu", runs_on=["cpu"], threads=threads)
        self.vocabulary = Vocabulary.load(vocabulary)

    def logits(self, texts: Sequence[str]) -> Logits:
        """Logits of shape (texts, labels)."""
        assert self.session.width is not None
        logits = np.empty((len(texts), self.session.width), np.float32)
        for start in range(0, len(texts), _CHUNK):
            part = logits[start : start + _CHUNK]
            batches = ngram_batches(texts[start : start + _CHUNK], self.vocabulary)
            for batch, answers in self.session.run_all(batches):
                part[batch.rows] = answers
        return logits


def dev_sets(data: Path, labels: Sequence[str]) -> dict[int, TaskData]:
    """The dev sentences (key 0) and their pieces by number of words."""
    whole = read_task(data, "language", "dev", labels)
    sets = {0: whole}
    for words in PIECES:
        cut = pieces([row.text for row in whole.rows], [row.lang for row in whole.rows], words)
        rows = [_with_text(whole.rows[number], text) for number, text in cut]
        sets[words] = TaskData("language", list(labels), rows)
    return sets


def _with_text(row: Row, text: str) -> Row:
    return Row(row.task, text, row.source, row.lang, row.target)


def _truth(part: TaskData) -> NDArray[np.intp]:
    return np.array([row.target for row in part.rows], dtype=np.intp)


def calibrated_head(
    head: Head, logits: Mapping[int, Logits], sets: Mapping[int, TaskData]
) -> tuple[Head, Calibrated]:
    """`head` with its temperature and the probability under which it answers `und`.

    The temperature is fitted on sentences and pieces together. Of the probabilities 0.05, 0.10 ...
    the highest is taken that loses at most `MAX_LOST` of the right answers to single words.
    """
    truth = {words: _truth(part) for words, part in sets.items()}
    head, figures = calibrate_softmax(
        head,
        np.concatenate([logits[words] for words in sets]),
        np.concatenate([truth[words] for words in sets]),
    )
    said = softmax(logits[1] / np.float32(head.temperature))
    right = said.max(axis=1)[said.argmax(axis=1) == truth[1]]
    steps = [step / 20 for step in range(1, 20)]
    kept = [step for step in steps if (right < step).mean() <= MAX_LOST]
    return msgspec.structs.replace(head, undetermined=max(kept, default=0.0)), figures


def measure_language(
    graph: LanguageGraph,
    head: Head,
    logits: Mapping[int, Logits],
    sets: Mapping[int, TaskData],
    *,
    version: str,
    size: int,
    calibration: Calibrated,
    threads: int,
) -> LanguageModelFigures:
    """The figures of a calibrated head; `logits` are of `sets`."""
    reader = HeadReader(head)
    und = head.labels.index(UNDETERMINED)
    answers, errors, probabilities = {}, {}, {}
    for words, part in sets.items():
        said = reader.probabilities(logits[words])
        answer = reader.label_indices(said)
        answers[words] = np.where(answer < 0, und, answer)
        errors[_NAMES[words]] = calibration_error(
            said.argmax(axis=1) == _truth(part), said.max(axis=1)
        )
        probabilities[words] = said
    rng = random.Random(1)
    noise = reader.label_indices(
        reader.probabilities(graph.logits([gibberish(rng) for _ in range(_GIBBERISH)]))
    )
    whole = probabilities[0].copy()
    # A doubtful answer is `und` here, too: it counts as wrong.
    whole[answers[0] == und, und] = 2.0
    return LanguageModelFigures(
        version=version,
        bytes=size,
        sentences=language_figures(sets[0].rows, whole, head.labels),
        three_words=class_figures(_truth(sets[3]), answers[3], len(head.labels)),
        one_word=class_figures(_truth(sets[1]), answers[1], len(head.labels)),
        undetermined=Undetermined(
            threshold=head.undetermined,
            gibberish=float(((noise < 0) | (noise == und)).mean()),
            sentences=float((answers[0] == und).mean()),
            three_words=float((answers[3] == und).mean()),
            one_word=float((answers[1] == und).mean()),
        ),
        calibration=calibration,
        errors=errors,
        texts_per_s=texts_per_s(graph.logits, [row.text for row in sets[0].rows]),
        threads=threads,
    )


_NAMES: Final = {0: "sentences", 3: "three words", 1: "one word"}


def texts_per_s(score: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    """Texts a second through n-grams and graph, median of some rounds over all texts."""
    seconds = []
    for _ in range(_SPEED_ROUNDS):
        began = time.perf_counter()
        score(texts)
        seconds.append(time.perf_counter() - began)
    return len(texts) / median(seconds)
