"""Reads a BERT encoder with one classifier back out of its plain fp32 ONNX export.

The names are those that Optimum gives the nodes of a `BertForSequenceClassification`; a graph
without them is refused rather than guessed at. Weights are (inputs, outputs), biases (outputs,).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.errors import ModelBuildError

Array = NDArray[np.float32]

_LAYER = re.compile(r"^/bert/encoder/layer\.(\d+)/attention/self/query/MatMul$")
#: Name of each matrix product of a layer and its node's path within the layer.
DENSE = {
    "query": "attention/self/query",
    "key": "attention/self/key",
    "value": "attention/self/value",
    "context": "attention/output/dense",
    "widen": "intermediate/dense",
    "narrow": "output/dense",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """A matrix product and its bias; `reads` is the tensor it multiplies in the fp32 graph."""

    weight: Array
    bias: Array
    reads: str = ""


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer normalisation."""

    gain: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer; `dense` has the keys of `DENSE`."""

    dense: Mapping[str, Dense]
    attention_norm: Norm
    output_norm: Norm


@dataclass(frozen=True, slots=True)
class Encoder:
    """All weights of the model. `positions` has the row of token type 0 added."""

    words: Array
    positions: Array
    norm: Norm
    layers: list[Layer]
    pooler: Dense
    classifier: Dense
    heads: int
    epsilon: float


def read_encoder(path: Path) -> Encoder:
    """The encoder in the fp32 export at `path`.

    Raises:
        ModelBuildError: the graph is not a BERT classifier as Optimum exports it.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    attributes: dict[str, Any] = {}

    def node(name: str) -> onnx.NodeProto:
        if name not in nodes:
            raise ModelBuildError(
                f"the graph has no node `{name}`",
                where=str(path),
                hint="only a BERT classifier exported by Optimum without optimisation can be "
                "quantised here; serve another one as it is, in fp32",
            )
        found: onnx.NodeProto = nodes[name]
        return found

    def value(name: str) -> Array:
        array = numpy_helper.to_array(constants[name])
        return np.ascontiguousarray(array, dtype=np.float32)

    def dense(prefix: str) -> Dense:
        product, added = node(f"{prefix}/MatMul"), node(f"{prefix}/Add")
        bias = next(name for name in added.input if name in constants)
        return Dense(value(product.input[1]), value(bias), product.input[0])

    def gemm(name: str) -> Dense:
        product = node(name)
        transposed = any(a.name == "transB" and a.i for a in product.attribute)
        weight = value(product.input[1])
        return Dense(
            np.ascontiguousarray(weight.T) if transposed else weight, value(product.input[2])
        )

    def norm(prefix: str) -> Norm:
        normalise = node(f"{prefix}/LayerNormalization")
        attributes["epsilon"] = next(a.f for a in normalise.attribute if a.name == "epsilon")
        return Norm(value(normalise.input[1]), value(normalise.input[2]))

    numbers = sorted(int(match[1]) for name in nodes if (match := _LAYER.match(name)))
    if not numbers:
        node("/bert/encoder/layer.0/attention/self/query/MatMul")
    layers = []
    for number in numbers:
        at = f"/bert/encoder/layer.{number}"
        layers.append(
            Layer(
                {name: dense(f"{at}/{part}") for name, part in DENSE.items()},
                norm(f"{at}/attention/output/LayerNorm"),
                norm(f"{at}/output/LayerNorm"),
            )
        )
    embeddings = "/bert/embeddings"
    types = value(node(f"{embeddings}/token_type_embeddings/Gather").input[0])
    return Encoder(
        words=value(node(f"{embeddings}/word_embeddings/Gather").input[0]),
        positions=value(node(f"{embeddings}/position_embeddings/Gather").input[0]) + types[0],
        norm=norm(f"{embeddings}/LayerNorm"),
        layers=layers,
        pooler=gemm("/bert/pooler/dense/Gemm"),
        classifier=gemm("/classifier/Gemm"),
        heads=_heads(path, constants, nodes),
        epsilon=float(attributes["epsilon"]),
    )


def _heads(
    path: Path, constants: Mapping[str, onnx.TensorProto], nodes: Mapping[str, onnx.NodeProto]
) -> int:
    """Attention heads: the third number of the shape that the queries are folded into."""
    at = "/bert/encoder/layer.0/attention/self"
    made_by = {output: node for node in nodes.values() for output in node.output}
    fold = nodes.get(f"{at}/Reshape")
    shape = made_by.get(fold.input[1]) if fold is not None else None
    if shape is None or shape.op_type != "Concat" or len(shape.input) != 4:
        raise ModelBuildError("cannot tell the number of attention heads", where=str(path))
    name = shape.input[2]
    if name in constants:
        return int(numpy_helper.to_array(constants[name]).item())
    return int(numpy_helper.to_array(made_by[name].attribute[0].t).item())
