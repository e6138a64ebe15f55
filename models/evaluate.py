"""Measures a model on dev sets: quality, distance from fp32, batch independence, speed.

Everything is scored through the same scorer that the worker uses; the fp32 graph, where there is
one, differs in the session only.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.calibrate import Calibrated
from models.devices import available_threads
from models.figures import (
    LanguageFigures,
    SentimentFigures,
    ToxicityFigures,
    language_figures,
    sentiment_figures,
    toxicity_figures,
)
from models.functional.evaluate import FunctionalFigures
from models.heads import HeadReader
from models.language.measure import LanguageModelFigures
from models.manifest import LANGUAGE_TASK, Head, Manifest, Model
from models.scorer import OnnxScorer
from models.scores import Prepared
from models.session import GraphSession
from models.training.data import TaskData, TaskName, read_task

Logits = NDArray[np.float32]
#: Told what is being scored, how many texts of it are done, and how many there are.
Report = Callable[[str, int, int], None]

#: Posts for parity, batch independence and speed when the data folder has a feed.
FEED_POSTS: Final = 3000
_SPEED_PIECE = 200
_CHUNK = 2048


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """The served graph against the fp32 graph on the same texts; shares of equal labels."""

    texts: int
    sentiment: float
    toxic: float
    toxicity: float
    language: float
    toxic_mean_change: float
    toxic_largest_change: float
    dev: dict[str, tuple[float, float]]


class Rebatching(msgspec.Struct, frozen=True, kw_only=True):
    """The same texts in another order and in batches of another size."""

    texts: int
    flips: dict[str, int]
    largest_change: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second, medians of alternating runs; `ratio` is served over fp32, tokenising apart."""

    posts: int
    threads: int
    scoring: float
    session: float
    fp32_session: float | None
    ratio: float | None


class DevFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the dev sets say."""

    sentiment: SentimentFigures | None = None
    toxicity: ToxicityFigures | None = None
    language: LanguageFigures | None = None

    def keys(self) -> dict[str, float]:
        """The figures a model is judged by."""
        figures: dict[str, float] = {}
        if self.sentiment is not None:
            for source, part in self.sentiment.by_source.items():
                figures[f"sentiment macro-recall, {source}"] = part.macro_recall
        if self.toxicity is not None:
            for label, of in self.toxicity.labels.items():
                if of.english.roc_auc is not None:
                    figures[f"{label} ROC-AUC, English rows"] = of.english.roc_auc
        if self.language is not None:
            figures["language accuracy"] = self.language.all.accuracy
        return figures


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured of one model."""

    model: str
    version: str
    dev: DevFigures
    parity: Parity | None
    rebatching: Rebatching
    speed: Speed
    calibration: dict[str, Calibrated] = {}
    language_model: LanguageModelFigures | None = None
    functional: FunctionalFigures | None = None


class Bench:
    """One model under measurement: its scorer, its heads, and the fp32 graph where there is one."""

    def __init__(self, manifest: Manifest, name: str, *, fp32: Path | None, threads: int) -> None:
        alone = msgspec.structs.replace(manifest, presets={name: [name]})
        self.scorer = OnnxScorer(alone, name, device="cpu", threads=threads)
        self.describe(manifest.model(name))
        self._dev: dict[tuple[TaskName, bool], Logits] = {}
        self.fp32 = (
            GraphSession(fp32, device="cpu", runs_on=["cpu"], threads=threads) if fp32 else None
        )

    def describe(self, model: Model) -> None:
        """Measure as this entry says; the graph stays."""
        self.model = model
        self.readers = {task: HeadReader(head) for task, head in model.heads.items()}

    def dev_probabilities(
        self, task: TaskName, part: TaskData, report: Report, *, fp32: bool = False
    ) -> Logits:
        """Probabilities of one task's head for its dev rows; they are scored once."""
        return self.readers[task].probabilities(self.dev_logits(task, part, report, fp32=fp32))

    def dev_logits(
        self, task: TaskName, part: TaskData, report: Report, *, fp32: bool = False
    ) -> Logits:
        """The model's logits for one task's dev rows; they are scored once."""
        key = (task, fp32)
        if key not in self._dev:
            what = f"{task} (fp32)" if fp32 else task
            seen = 0

            def done(texts: int) -> None:
                nonlocal seen
                seen += texts
                report(what, seen, len(part.rows))

            texts = [row.text for row in part.rows]
            self._dev[key] = self.logits(texts, done, fp32=fp32)
        return self._dev[key]

    def logits(
        self, texts: Sequence[str], done: Callable[[int], None], *, fp32: bool = False
    ) -> Logits:
        """Logits of all texts; `done` is told how many texts each piece had."""
        parts = [np.empty((0, self.model.width), np.float32)]
        for start in range(0, len(texts), _CHUNK):
            prepared = self.scorer.prepare(texts[start : start + _CHUNK])
            parts.append(self.infer_fp32(prepared) if fp32 else self.scorer.infer(prepared))
            done(prepared.count)
        return np.concatenate(parts)

    def infer_fp32(self, prepared: Prepared) -> Logits:
        """What `OnnxScorer.infer` does, with the fp32 graph."""
        assert self.fp32 is not None
        return self.scorer.infer_with(self.fp32, prepared)


def dev_rows(model: Model, data: Path) -> dict[TaskName, TaskData]:
    """The dev rows of every task the model answers."""
    tasks: tuple[TaskName, ...] = ("sentiment", "toxicity", "language")
    return {
        task: read_task(data, task, "dev", model.heads[task].labels)
        for task in tasks
        if task in model.heads
    }


def feed_texts(data: Path, count: int = FEED_POSTS) -> list[str]:
    """Texts of `posts.jsonl[.gz]` in the data folder, drawn at random; none where there is none."""
    for path in (data / "posts.jsonl.gz", data / "posts.jsonl"):
        if path.is_file():
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            texts = [json.loads(line)["text"] for line in raw.splitlines()]
            return random.Random(0).sample(texts, min(count, len(texts)))
    return []


def dev_figures(
    bench: Bench,
    rows: Mapping[TaskName, TaskData],
    report: Report,
    *,
    fp32: bool = False,
) -> DevFigures:
    """Score the dev rows of every task and work out its figures."""
    sentiment = toxicity = language = None
    for task, part in rows.items():
        probabilities = bench.dev_probabilities(task, part, report, fp32=fp32)
        head = bench.model.heads[task]
        if task == "sentiment":
            sentiment = sentiment_figures(part.rows, probabilities)
        elif task == "toxicity":
            toxicity = toxicity_figures(part.rows, probabilities, head)
        else:
            language = language_figures(part.rows, probabilities, head.labels)
    return DevFigures(sentiment=sentiment, toxicity=toxicity, language=language)


def measure_rebatching(bench: Bench, texts: Sequence[str]) -> Rebatching:
    """Score `texts` in their order and shuffled in other batches, and compare."""
    here = bench.logits(texts, lambda _: None)
    order = np.random.default_rng(1).permutation(len(texts))
    elsewhere = np.empty_like(here)
    # Pieces of 37 are cut into other batches, with other neighbours and other padding.
    for start in range(0, len(order), 37):
        ids = order[start : start + 37]
        prepared = bench.scorer.prepare([texts[i] for i in ids])
        elsewhere[ids] = bench.scorer.infer(prepared)
    flips, largest = {}, 0.0
    for task, reader in bench.readers.items():
        a, b = reader.probabilities(here), reader.probabilities(elsewhere)
        flips[task] = int((_answers(reader.head, a) != _answers(reader.head, b)).sum())
        largest = max(largest, float(np.abs(a - b).max(initial=0.0)))
    return Rebatching(texts=len(texts), flips=flips, largest_change=largest)


def _answers(head: Head, probabilities: Logits) -> NDArray[np.intp]:
    """Label index of each row, -1 for none."""
    if head.activation == "softmax":
        best: NDArray[np.intp] = probabilities.argmax(axis=1)
        return best
    limits = np.array([head.thresholds[label] for label in head.labels], dtype=np.float32)
    reached = np.where(probabilities >= limits, probabilities, -1.0)
    answers: NDArray[np.intp] = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
    return answers


def measure_parity(
    bench: Bench, texts: Sequence[str], dev: Mapping[str, tuple[float, float]]
) -> Parity:
    """Compare the served graph with the fp32 graph on `texts`."""
    served = bench.logits(texts, lambda _: None)
    exact = bench.logits(texts, lambda _: None, fp32=True)
    equal = {"sentiment": 1.0, "toxicity": 1.0, LANGUAGE_TASK: 1.0}
    for task, reader in bench.readers.items():
        a, b = reader.probabilities(served), reader.probabilities(exact)
        equal[task] = float((_answers(reader.head, a) == _answers(reader.head, b)).mean())
    toxic, change = 1.0, np.zeros(1)
    if "toxicity" in bench.readers:
        reader = bench.readers["toxicity"]
        a, b = (reader.probabilities(x)[:, 0] for x in (served, exact))
        limit = np.float32(reader.head.thresholds[reader.head.labels[0]])
        toxic = float(((a >= limit) == (b >= limit)).mean())
        change = np.abs(a - b)
    return Parity(
        texts=len(texts),
        sentiment=equal["sentiment"],
        toxic=toxic,
        toxicity=equal["toxicity"],
        language=equal[LANGUAGE_TASK],
        toxic_mean_change=float(change.mean()),
        toxic_largest_change=float(change.max()),
        dev=dict(dev),
    )


def measure_speed(bench: Bench, texts: Sequence[str], threads: int) -> Speed:
    """Posts a second of the whole scoring path, and of the session beside the fp32 session.

    The ways take turns on small pieces: whatever else runs on the machine slows all of them.
    """
    seconds: dict[str, list[float]] = {"scoring": [], "session": [], "fp32": []}
    for start in range(0, len(texts), _SPEED_PIECE):
        piece = texts[start : start + _SPEED_PIECE]
        prepared = bench.scorer.prepare(piece)
        runs: dict[str, Callable[[], object]] = {
            "scoring": partial(bench.scorer.score, piece),
            "session": partial(bench.scorer.infer, prepared),
        }
        if bench.fp32 is not None:
            runs["fp32"] = partial(bench.infer_fp32, prepared)
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - began) / len(piece))
    rates = {name: 1 / median(per_post) for name, per_post in seconds.items() if per_post}
    return Speed(
        posts=len(texts),
        threads=threads,
        scoring=rates["scoring"],
        session=rates["session"],
        fp32_session=rates.get("fp32"),
        ratio=rates["session"] / rates["fp32"] if "fp32" in rates else None,
    )


def evaluate(
    manifest: Manifest,
    name: str,
    data: Path,
    *,
    fp32: Path | None = None,
    threads: int = 0,
    report: Report = lambda _what, _done, _all: None,
) -> Evaluation:
    """Measure the model `name` on the dev sets in the folder `data`.

    Args:
        manifest: where the model is described.
        name: the model's name in it.
        data: folder with `TASK.dev.tsv[.gz]`, and `posts.jsonl[.gz]` for parity and speed.
        fp32: the fp32 export to compare with; None: no parity.
        threads: of the session; 0: every core.
        report: told what is being measured, how many texts of it are done, and how many there are.

    Raises:
        ModelBuildError: a dev set is missing.
        ModelError: the model cannot be loaded or run.
    """
    threads = threads or available_threads()
    return measure(Bench(manifest, name, fp32=fp32, threads=threads), data, threads, report)


def measure(bench: Bench, data: Path, threads: int, report: Report) -> Evaluation:
    """`evaluate` for a bench that is there already."""
    rows = dev_rows(bench.model, data)
    served = dev_figures(bench, rows, report)
    feed = (
        feed_texts(data) or [row.text for part in rows.values() for row in part.rows][:FEED_POSTS]
    )
    report("other batches", 0, 0)
    rebatching = measure_rebatching(bench, feed)
    parity = None
    if bench.fp32 is not None:
        exact = dev_figures(bench, rows, report, fp32=True)
        pairs = zip(served.keys().items(), exact.keys().values(), strict=True)
        report("parity", 0, 0)
        parity = measure_parity(bench, feed, {key: (a, b) for (key, a), b in pairs})
    report("speed", 0, 0)
    return Evaluation(
        model=bench.model.id,
        version=bench.model.version,
        dev=served,
        parity=parity,
        rebatching=rebatching,
        speed=measure_speed(bench, feed, threads),
    )
