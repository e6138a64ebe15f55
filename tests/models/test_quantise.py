"""The int8 graph: near the fp32 graph, the same in every batch, and refused for what is no BERT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.calibration import (
    STRENGTHS,
    Seen,
    choose_scale,
    input_scale,
    observe,
    product_error,
    smoothing_factors,
    weight_int8,
)
from models.encoder import read_encoder
from models.errors import ModelBuildError
from models.quantise import quantise
from models.session import LABELS_METADATA, GraphSession
from tests.models.bert_graph import FLAT_LABELS, HEADS, LAYERS
from tests.models.conftest import SmallModel, sentences


def test_the_int8_graph_is_near_the_fp32_graph(built_small_model: SmallModel) -> None:
    scorer = built_small_model.scorer()
    exact = GraphSession(built_small_model.fp32, device="cpu", runs_on=["cpu"], threads=1)
    prepared = scorer.prepare(sentences(150, seed=9))
    served = scorer.infer(prepared)
    reference = scorer.infer_with(exact, prepared)
    spread = reference.std(axis=0).mean()
    assert np.abs(served - reference).mean() < 0.15 * spread
    # Not the same graph by mistake.
    assert np.abs(served - reference).max() > 0


def test_words_and_products_are_int8_and_nothing_measures_while_scoring(
    built_small_model: SmallModel,
) -> None:
    graph = onnx.load(built_small_model.folder / "small" / "model.onnx").graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    int8 = [name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8]
    assert "words" in int8
    assert sum(name.endswith(".weight") for name in int8) == 6 * LAYERS
    operators = {node.op_type for node in graph.node}
    assert not {op for op in operators if op.startswith("Dynamic")}


def test_labels_travel_in_the_graph(built_small_model: SmallModel) -> None:
    model = onnx.load(built_small_model.folder / "small" / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata[LABELS_METADATA]) == FLAT_LABELS


def test_the_encoder_is_read_as_it_was_written(built_small_model: SmallModel) -> None:
    encoder = read_encoder(built_small_model.fp32)
    assert encoder.heads == HEADS
    assert len(encoder.layers) == LAYERS
    assert encoder.classifier.weight.shape[1] == len(FLAT_LABELS)


def test_padding_does_not_widen_a_range(built_small_model: SmallModel) -> None:
    scorer = built_small_model.scorer()
    reads = read_encoder(built_small_model.fp32).layers[1].dense["narrow"].reads
    texts = ["the sea", "lovely morning today and we like it very much"]
    together = scorer.prepare(texts).batches[0]
    apart = [batch for text in texts for batch in scorer.prepare([text]).batches[0]]
    assert len(together) == 1
    padded = observe(built_small_model.fp32, [reads], together)[reads]
    alone = observe(built_small_model.fp32, [reads], apart)[reads]
    assert padded.low == pytest.approx(alone.low, abs=1e-5)
    assert padded.high == pytest.approx(alone.high, abs=1e-5)


def test_nothing_to_calibrate_with(built_small_model: SmallModel, tmp_path: Path) -> None:
    with pytest.raises(ModelBuildError, match="no posts to calibrate with"):
        quantise(built_small_model.fp32, tmp_path / "out.onnx", FLAT_LABELS, [])
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_not_the_classifiers(built_small_model: SmallModel, tmp_path: Path) -> None:
    with pytest.raises(ModelBuildError, match="8 labels do not match a classifier of 9 logits"):
        quantise(built_small_model.fp32, tmp_path / "out.onnx", FLAT_LABELS[1:], [])


def test_a_graph_that_is_no_plain_bert_is_refused(built_small_model: SmallModel) -> None:
    int8 = built_small_model.folder / "small" / "model.onnx"
    with pytest.raises(ModelBuildError, match="the graph has no node") as caught:
        read_encoder(int8)
    assert caught.value.hint is not None


def _loud(seed: int = 0) -> tuple[Seen, np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
    """Inputs with one channel fifty times as large as the others, and a weight."""
    random = np.random.default_rng(seed)
    some = random.normal(0, 1, (400, 24)).astype(np.float32)
    some[:, 5] *= 50
    weight = random.normal(0, 0.2, (24, 16)).astype(np.float32)
    return Seen(some.min(axis=0), some.max(axis=0), some), weight


def test_smoothing_makes_a_loud_channel_bearable() -> None:
    seen, weight = _loud()
    plain = product_error(seen, weight, input_scale(seen, np.ones(24, np.float32)))
    chosen, _ = choose_scale(seen, weight)
    smoothed = product_error(seen, weight, chosen)
    assert np.square(smoothed).mean() < np.square(plain).mean() / 4


def test_the_chosen_strength_is_the_best_of_all() -> None:
    seen, weight = _loud(1)
    chosen, mean = choose_scale(seen, weight)
    error = product_error(seen, weight, chosen)
    assert mean == pytest.approx(error.mean(axis=0), abs=1e-6)
    for strength in STRENGTHS:
        other = input_scale(seen, smoothing_factors(seen, weight, strength))
        assert np.square(error).mean() <= np.square(product_error(seen, weight, other)).mean()


def test_int8_weights_are_within_half_a_step() -> None:
    weight = np.random.default_rng(2).normal(0, 1, (30, 20)).astype(np.float32)
    weight[:, 3] = 0
    values, scale = weight_int8(weight, axis=0)
    assert scale.shape == (1, 20)
    assert np.abs(values * scale - weight).max() <= scale.max() / 2 + 1e-6
    assert (values[:, 3] == 0).all()
