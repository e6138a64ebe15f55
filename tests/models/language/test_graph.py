"""Packing, the graph against plain NumPy, and the graph in any company."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.language.graph import Floats, Layers, pack, unpack, write_graph
from models.language.measure import LanguageGraph
from models.language.ngrams import ngrams
from models.language.vocabulary import build_vocabulary

WORDS = [
    "guten",
    "morgen",
    "liebe",
    "welt",
    "good",
    "morning",
    "dear",
    "world",
    "bonjour",
    "cher",
    "monde",
    "buenos",
    "dias",
]
Model = tuple[LanguageGraph, Callable[[str], Floats]]
LABELS = ["language/de", "language/en", "language/fr", "language/und"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("language")
    vocabulary = build_vocabulary(np.unique(ngrams([" ".join(WORDS)]).hashes), 400)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(400, 8)).astype(np.float32)
    shapes = ((4, 8), (4,), (5, 8), (5,), (4, 5))
    layers = Layers(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    vocabulary.save(folder / "v.npz")
    write_graph(folder / "g.onnx", table, layers, LABELS)
    graph = LanguageGraph(folder / "g.onnx", folder / "v.npz", threads=1)
    packed = unpack(*pack(table))

    def by_hand(text: str) -> Floats:
        rows = vocabulary.rows(ngrams([text]).hashes)
        mean = packed[rows[rows >= 0]].mean(axis=0)
        hidden = np.maximum(layers.hidden_weight @ mean + layers.hidden_bias, 0)
        logits: Floats = layers.weight @ mean + layers.bias + layers.out_weight @ hidden
        return logits

    return graph, by_hand


def test_four_bits_keep_a_table_within_half_a_step() -> None:
    table = np.random.default_rng(1).normal(size=(500, 48)).astype(np.float32)
    packed, scales = pack(table)
    assert packed.shape == (500, 24)
    error = unpack(packed, scales) - table
    assert np.sqrt((error**2).mean()) < 0.11
    # A row of zeros has no scale.
    assert (unpack(*pack(np.zeros((2, 4), np.float32))) == 0).all()


def test_the_graph_is_the_mean_and_its_layers(
    model: Model,
) -> None:
    graph, by_hand = model
    texts = ["guten Morgen", "dear world", "Bonjour monde cher", "morning"]
    logits = graph.logits(texts)
    for text, row in zip(texts, logits, strict=True):
        np.testing.assert_allclose(row, by_hand(text), atol=5e-5)
    assert graph.session.labels == LABELS


@pytest.mark.parametrize("text", ["", "123 :-)", "🎉🎉", "ԱԲԳ"])
def test_nothing_known_is_und(model: Model, text: str) -> None:
    logits = model[0].logits([text, "guten morgen"])
    assert logits[0].argmax() == 3
    assert logits[0].max() > 10 > np.abs(logits[1]).max()


def test_a_text_scores_the_same_in_any_company(model: Model) -> None:
    graph, _ = model
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(WORDS, size=size)) for size in rng.integers(1, 30, size=300)]
    together = graph.logits(texts)
    order = rng.permutation(len(texts))
    shuffled = graph.logits([texts[i] for i in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-4)
    alone = np.concatenate([graph.logits([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-4)
