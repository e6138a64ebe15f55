"""Labels a source without Kafka: reading, inference and writing overlap, the order stays.

The invariant: what is held is bounded by a few windows of `WINDOW_LINES` lines or `WINDOW_BYTES` of
text, whatever the length of the source; and a label depends on its line alone, not on its window.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.scores import Prepared, Scorer
from stream.errors import SourceError
from stream.labelling import label_of, model_refs, retraction_of
from stream.records import DeadLetter, Label, dead_letter_of
from stream.sources.ahead import made_ahead, made_ahead_or_idle
from stream.sources.files import BadLine, Line, PostLine

#: Long enough for the scorer to sort by length with little padding: 4,096 take as much time a post
#: (measured, 21.6 s against 20.9 s of two cores for 4,096 posts), and the first labels come later.
WINDOW_LINES: Final = 1024
WINDOW_BYTES: Final = 16 * 1024 * 1024
#: A source that pauses for this long gets the labels of what it gave so far.
_IDLE_S = 0.2


class _Window(NamedTuple):
    lines: list[Line]
    prepared: Prepared


def label_source(
    batches: Iterable[list[Line]], scorer: Scorer
) -> Iterator[list[Label | DeadLetter]]:
    """The record of every line in order, window by window.

    Raises:
        SourceError: the source ended early; the records of what came before were yielded.
        ModelRuntimeError: the scorer failed.
    """
    models = model_refs(scorer.models)
    windows = made_ahead(_windows(made_ahead_or_idle(batches, _IDLE_S), scorer))
    for window, logits in made_ahead(_inferred(windows, scorer)):
        scores = iter(scorer.finish(window.prepared, logits))
        now_ms = time.time_ns() // 1_000_000
        records: list[Label | DeadLetter] = []
        for line in window.lines:
            if isinstance(line, BadLine):
                letter = dead_letter_of(line.error, line.raw, at_ms=now_ms, source_input=line.where)
                if line.cut:
                    letter = msgspec.structs.replace(letter, original_truncated=True)
                records.append(letter)
            elif line.post.op == "delete":
                records.append(retraction_of(line.post, models, labelled_at_ms=now_ms))
            else:
                records.append(label_of(line.post, next(scores), models, labelled_at_ms=now_ms))
        yield records


def _windows(batches: Iterable[list[Line] | None], scorer: Scorer) -> Iterator[_Window]:
    lines: list[Line] = []
    size = 0
    error: SourceError | None = None
    try:
        for batch in batches:
            for line in batch or ():
                lines.append(line)
                size += len(line.post.text or "") if isinstance(line, PostLine) else len(line.raw)
                if len(lines) >= WINDOW_LINES or size >= WINDOW_BYTES:
                    yield _window(lines, scorer)
                    lines, size = [], 0
            if batch is None and lines:
                yield _window(lines, scorer)
                lines, size = [], 0
    except SourceError as exc:
        error = exc
    if lines:
        yield _window(lines, scorer)
    if error is not None:
        raise error


def _window(lines: list[Line], scorer: Scorer) -> _Window:
    texts = [
        line.post.text or ""
        for line in lines
        if isinstance(line, PostLine) and line.post.op != "delete"
    ]
    return _Window(lines, scorer.prepare(texts))


def _inferred(
    windows: Iterable[_Window], scorer: Scorer
) -> Iterator[tuple[_Window, NDArray[np.float32]]]:
    for window in windows:
        yield window, scorer.infer(window.prepared)
