"""Writes the language model as ONNX: four bits a weight, one scale a row, nothing unpacked at rest.

Invariant: a text's logits depend on its own rows alone. Padding has the scale 0 and adds nothing.

Each byte of the table holds two weights, `low + 16 * high`, both 0 to 15 for -7.5 to 7.5 times the
row's scale. The graph sums bytes and high halves, weighted by the scales, and the next layer, being
linear, takes the sums apart: no weight is ever unpacked by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.session import LABELS_METADATA, NGRAM_INPUT

#: Levels of four bits lie half a step beside zero: 0 stands for -7.5, 15 for 7.5.
_MIDDLE: Final = 7.5
_LEVELS: Final = 16
#: Logit of `und` for a text of which no n-gram is known; all others get 0.
_NOTHING_KNOWN: Final = 14.0
#: Shares of a row's largest weight that are tried as its range; cutting the largest off is often
#: cheaper than coarse steps for all.
_RANGES: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65)
_CHUNK: Final = 65536
Floats = NDArray[np.float32]


def pack(table: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """A table (rows, an even number of columns) as bytes (rows, columns / 2) and a scale a row.

    Low halves are the first columns, high halves the rest. Each row's scale is the one of
    `_RANGES` with the smallest squared error.
    """
    bytes_, scales = [], []
    for start in range(0, len(table), _CHUNK):
        codes, scale = _rounded(table[start : start + _CHUNK])
        half = table.shape[1] // 2
        bytes_.append((codes[:, :half] | (codes[:, half:] << 4)).astype(np.uint8))
        scales.append(scale)
    return np.concatenate(bytes_), np.concatenate(scales)


def _rounded(rows: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    largest = np.abs(rows).max(axis=1, initial=0.0)
    best = np.zeros(rows.shape, np.uint8)
    scales = np.zeros(len(rows), np.float16)
    least = np.full(len(rows), np.inf)
    for share in _RANGES:
        scale = (largest * share / _MIDDLE).astype(np.float16)
        step = np.maximum(scale.astype(np.float32), np.finfo(np.float16).tiny)[:, None]
        codes = np.clip(np.rint(rows / step + _MIDDLE), 0, _LEVELS - 1)
        error = (((codes - _MIDDLE) * scale.astype(np.float32)[:, None] - rows) ** 2).sum(axis=1)
        better = error < least
        best[better], scales[better] = codes[better].astype(np.uint8), scale[better]
        least[better] = error[better]
    return best, scales


def unpack(packed: NDArray[np.uint8], scales: NDArray[np.float16]) -> Floats:
    """The table that `pack` gave, as the graph understands it."""
    codes = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    rows: Floats = (codes - np.float32(_MIDDLE)) * scales.astype(np.float32)[:, None]
    return rows


class Layers(NamedTuple):
    """What follows the mean: `weight` m + `bias` + `out_weight` relu(`hidden_weight` m + `hidden_bias`)."""

    weight: Floats
    bias: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    out_weight: Floats


def write_graph(path: Path, table: Floats, layers: Layers, labels: Sequence[str]) -> None:
    """Write the graph: input `ngrams` (texts, n) of rows, padded with the number of rows.

    Args:
        path: of the file.
        table: a vector for each row, (rows, size).
        layers: (labels, size), (labels,), (hidden, size), (hidden,), (labels, hidden).
        labels: of the logits, as `task/label`; the last is `und`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    packed, scales = pack(table)
    rows, half = packed.shape
    first = np.concatenate([layers.weight, layers.hidden_weight]).T.astype(np.float64)
    low, high = first[:half], first[half:]
    nothing = np.zeros((1, len(labels)), np.float32)
    nothing[0, -1] = _NOTHING_KNOWN
    constants: dict[str, NDArray[Any]] = {
        "table": np.concatenate([packed, np.zeros((1, half), np.uint8)]),
        "scales": np.concatenate([scales, np.zeros(1, np.float16)]),
        "of_bytes": low.astype(np.float32),
        "of_halves": (high - _LEVELS * low).astype(np.float32),
        "of_scales": (-_MIDDLE * (low.sum(0) + high.sum(0)))[None].astype(np.float32),
        "bias": np.concatenate([layers.bias, layers.hidden_bias]).astype(np.float32),
        "out_weight": layers.out_weight.T.astype(np.float32),
        "widths": np.array([len(labels), len(layers.hidden_bias)], np.int64),
        "nothing": nothing,
        "rows": np.array(rows, np.int32),
        "four": np.array(4, np.uint8),
        "one": np.array(1.0, np.float32),
        "zero": np.array(0.0, np.float32),
        "axis": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["scales"], ["scales32"], to=TensorProto.FLOAT),
        node("Less", [NGRAM_INPUT, "rows"], ["there"]),
        node("Cast", ["there"], ["there32"], to=TensorProto.FLOAT),
        node("ReduceSum", ["there32", "axis"], ["count"], keepdims=1),
        node("Max", ["count", "one"], ["divisor"]),
        node("Gather", ["scales32", NGRAM_INPUT], ["scale"]),
        node("Div", ["scale", "divisor"], ["share"]),
        node("ReduceSum", ["share", "axis"], ["scale_sum"], keepdims=1),
        node("Unsqueeze", ["share", "axis"], ["shares"]),
        node("Gather", ["table", NGRAM_INPUT], ["bytes"]),
        node("BitShift", ["bytes", "four"], ["halves"], direction="RIGHT"),
        node("Cast", ["bytes"], ["bytes32"], to=TensorProto.FLOAT),
        node("Cast", ["halves"], ["halves32"], to=TensorProto.FLOAT),
        node("MatMul", ["shares", "bytes32"], ["byte_sums"]),
        node("MatMul", ["shares", "halves32"], ["half_sums"]),
        node("Squeeze", ["byte_sums", "axis"], ["byte_sum"]),
        node("Squeeze", ["half_sums", "axis"], ["half_sum"]),
        node("MatMul", ["byte_sum", "of_bytes"], ["part_1"]),
        node("MatMul", ["half_sum", "of_halves"], ["part_2"]),
        node("MatMul", ["scale_sum", "of_scales"], ["part_3"]),
        node("Sum", ["part_1", "part_2", "part_3", "bias"], ["both"]),
        node("Split", ["both", "widths"], ["linear", "inner"], axis=1),
        node("Relu", ["inner"], ["hidden"]),
        node("MatMul", ["hidden", "out_weight"], ["beside"]),
        node("Add", ["linear", "beside"], ["known"]),
        node("Greater", ["count", "zero"], ["some"]),
        node("Where", ["some", "known", "nothing"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "language",
        [value(NGRAM_INPUT, TensorProto.INT32, ["texts", "ngrams"])],
        [value("logits", TensorProto.FLOAT, ["texts", len(labels)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="tidegate"
    )
    helper.set_model_props(model, {LABELS_METADATA: json.dumps(list(labels))})
    onnx.checker.check_model(model)
    onnx.save(model, path)
