"""Makes the language model: train, write the graph, calibrate, measure; each step leaves a file.

A step whose file is there is not done again, as in `models.build`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.errors import ModelBuildError
from models.figures import recognised_languages
from models.language.graph import Layers, write_graph
from models.language.measure import (
    LanguageGraph,
    LanguageModelFigures,
    calibrated_head,
    dev_sets,
    measure_language,
)
from models.language.ngrams import MAX_CHARS
from models.manifest import LANGUAGE_TASK, Head, Model, sha256_of

#: Files of the model, beside the encoder's.
GRAPH: Final = "language.onnx"
VOCABULARY: Final = "language.npz"
FIGURES: Final = "language.json"
RECIPE: Final = Path(__file__).parent.parent / "training" / "language.toml"
_NET = "net.npz"
Report = Callable[[str, float, str], None]


def read_language_recipe(path: Path = RECIPE) -> dict[str, Any]:
    """The recipe in a TOML file.

    Raises:
        ModelBuildError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ModelBuildError(f"cannot read the recipe: {exc}", where=str(path)) from exc


def fit_language(data: Path, work: Path, settings: Mapping[str, Any], report: Report) -> None:
    """Train on the texts in `data`; the vocabulary and, last, the weights go to `work`."""
    if (work / _NET).is_file():
        return
    report("language", 0.0, "reading")
    from models.training import language as training

    work.mkdir(parents=True, exist_ok=True)
    corpus = training.read_corpus(data, settings)
    hashes = training.word_hashes(corpus.words)
    vocabulary, known = training.choose_vocabulary(corpus, hashes, settings)
    report("language", 0.0, f"{known:,} n-grams occur often enough")
    rows = training.Ragged(vocabulary.rows(hashes.values), hashes.ends)
    del hashes
    net = training.train(
        corpus, rows, len(vocabulary), settings, lambda share, what: report("language", share, what)
    )
    vocabulary.save(work / VOCABULARY)
    part = work / "net.part.npz"
    assert net.hidden is not None
    assert net.out is not None
    layers = {
        "weight": net.linear.weight, "bias": net.linear.bias, "hidden_weight": net.hidden.weight,
        "hidden_bias": net.hidden.bias, "out_weight": net.out.weight,
    }  # fmt: skip
    np.savez(
        part,
        table=net.table.numpy(),
        labels=np.array(corpus.labels),
        **{name: layer.detach().numpy() for name, layer in layers.items()},
    )
    part.replace(work / _NET)


def write_language(work: Path, folder: Path) -> None:
    """Write the files that ship from what `fit_language` left in `work`."""
    if (folder / GRAPH).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_bytes((work / VOCABULARY).read_bytes())
    with np.load(work / _NET, allow_pickle=False) as net:
        labels = [f"{LANGUAGE_TASK}/{label}" for label in net["labels"].tolist()]
        part = folder / "language.part.onnx"
        layers = Layers(*(net[name] for name in Layers._fields))
        write_graph(part, net["table"], layers, labels)
    part.replace(folder / GRAPH)


def describe_language(
    data: Path, folder: Path, settings: Mapping[str, Any], version: str, threads: int
) -> tuple[Model, LanguageModelFigures]:
    """The manifest's entry of the files in `folder`, calibrated on dev, and what they are worth."""
    graph = LanguageGraph(folder / GRAPH, folder / VOCABULARY, threads)
    assert graph.session.labels is not None
    labels = [label.removeprefix(f"{LANGUAGE_TASK}/") for label in graph.session.labels]
    sets = dev_sets(data, labels)
    logits = {words: graph.logits([row.text for row in part.rows]) for words, part in sets.items()}
    head = Head(activation="softmax", slice=(0, len(labels)), labels=labels, top=3)
    head, calibration = calibrated_head(head, logits, sets)
    files = {file: sha256_of(folder / file) for file in (GRAPH, VOCABULARY)}
    figures = measure_language(
        graph,
        head,
        logits,
        sets,
        version=version,
        size=sum((folder / file).stat().st_size for file in files),
        calibration=calibration,
        threads=threads,
    )
    head = msgspec.structs.replace(head, languages=recognised_languages(figures.sentences))
    model = Model(
        id=settings["id"],
        version=version,
        licence=settings["licence"],
        folder=folder.name,
        graph=GRAPH,
        tokenizer=VOCABULARY,
        max_tokens=MAX_CHARS,
        files=files,
        heads={LANGUAGE_TASK: head},
        devices=["cpu"],
        reads="ngrams",
    )
    return model, figures
