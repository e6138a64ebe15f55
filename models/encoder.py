"""Reads a BERT or RoBERTa encoder with one classifier back out of its plain fp32 ONNX export.

The names are those that Optimum gives the nodes of a `BertForSequenceClassification` or of a
`(XLM)RobertaForSequenceClassification`; a graph without them is refused rather than guessed at.
Weights are (inputs, outputs), biases (outputs,).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from models.errors import ModelBuildError

Array = NDArray[np.float32]

_LAYER = re.compile(r"^/(bert|roberta)/encoder/layer\.(\d+)/attention/self/query/MatMul$")
#: RoBERTa's first rows of positions: 0 and 1 are never used by a token, 2 is the first token's.
_ROBERTA_FIRST_POSITION = 2
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


class _Reader:
    """Finds nodes by name in the graph at `path`, and the weights behind them."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.path = path
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = {node.name: node for node in graph.node}
        # Equal constants (biases that are all zero) are stored once, behind an Identity.
        self._same = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}

    def node(self, name: str) -> onnx.NodeProto:
        if name not in self.nodes:
            raise ModelBuildError(
                f"the graph has no node `{name}`",
                where=str(self.path),
                hint="only a BERT or RoBERTa classifier exported by Optimum without optimisation can "
                "be quantised here; serve another one as it is, in fp32",
            )
        found: onnx.NodeProto = self.nodes[name]
        return found

    def constant(self, name: str) -> str | None:
        while name in self._same:
            name = self._same[name]
        return name if name in self.constants else None

    def value(self, name: str) -> Array:
        stored = self.constant(name)
        if stored is None:
            raise ModelBuildError(f"`{name}` is no constant of the graph", where=str(self.path))
        array = numpy_helper.to_array(self.constants[stored])
        return np.ascontiguousarray(array, dtype=np.float32)

    def table(self, gather: str) -> Array:
        return self.value(self.node(f"{gather}/Gather").input[0])

    def dense(self, prefix: str) -> Dense:
        product, added = self.node(f"{prefix}/MatMul"), self.node(f"{prefix}/Add")
        bias = next(name for name in added.input if self.constant(name) is not None)
        return Dense(self.value(product.input[1]), self.value(bias), product.input[0])

    def gemm(self, name: str) -> Dense:
        product = self.node(name)
        transposed = any(a.name == "transB" and a.i for a in product.attribute)
        weight = self.value(product.input[1])
        return Dense(
            np.ascontiguousarray(weight.T) if transposed else weight, self.value(product.input[2])
        )

    def norm(self, prefix: str) -> Norm:
        normalise = self.node(f"{prefix}/LayerNormalization")
        return Norm(self.value(normalise.input[1]), self.value(normalise.input[2]))

    def epsilon(self, prefix: str) -> float:
        normalise = self.node(f"{prefix}/LayerNormalization")
        return float(next(a.f for a in normalise.attribute if a.name == "epsilon"))

    def layers(self, family: str, count: int) -> list[Layer]:
        return [
            Layer(
                {name: self.dense(f"{at}/{part}") for name, part in DENSE.items()},
                self.norm(f"{at}/attention/output/LayerNorm"),
                self.norm(f"{at}/output/LayerNorm"),
            )
            for at in (f"/{family}/encoder/layer.{number}" for number in range(count))
        ]


def read_encoder(path: Path) -> Encoder:
    """The encoder in the fp32 export at `path`.

    Raises:
        ModelBuildError: the graph is not a BERT or RoBERTa classifier as Optimum exports it.
    """
    reader = _Reader(path)
    found = [match for name in reader.nodes if (match := _LAYER.match(name))]
    if not found:
        reader.node("/bert/encoder/layer.0/attention/self/query/MatMul")
    family = found[0][1]
    wide = f"/{family}/encoder/layer.0/intermediate/"
    if not any(name.startswith(wide) and "Erf" in name for name in reader.nodes):
        raise ModelBuildError(
            "the encoder's activation is not GELU", where=str(path), hint="serve it in fp32"
        )
    embeddings = f"/{family}/embeddings"
    types = reader.table(f"{embeddings}/token_type_embeddings")
    positions = reader.table(f"{embeddings}/position_embeddings") + types[0]
    roberta = family == "roberta"
    return Encoder(
        words=reader.table(f"{embeddings}/word_embeddings"),
        # Padding stands on the right and is masked, so a token's position is its place in the row.
        positions=positions[_ROBERTA_FIRST_POSITION:] if roberta else positions,
        norm=reader.norm(f"{embeddings}/LayerNorm"),
        layers=reader.layers(family, 1 + max(int(match[2]) for match in found)),
        # Both: a product, tanh, a product, of the first token.
        pooler=reader.gemm("/classifier/dense/Gemm" if roberta else "/bert/pooler/dense/Gemm"),
        classifier=reader.gemm("/classifier/out_proj/Gemm" if roberta else "/classifier/Gemm"),
        heads=_heads(path, reader.constants, reader.nodes, family),
        epsilon=reader.epsilon(f"{embeddings}/LayerNorm"),
    )


def _heads(
    path: Path,
    constants: Mapping[str, onnx.TensorProto],
    nodes: Mapping[str, onnx.NodeProto],
    family: str,
) -> int:
    """Attention heads: the third number of the shape that the queries are folded into."""
    at = f"/{family}/encoder/layer.0/attention/self"
    made_by = {output: node for node in nodes.values() for output in node.output}
    fold = nodes.get(f"{at}/Reshape")
    shape = made_by.get(fold.input[1]) if fold is not None else None
    if shape is None or shape.op_type != "Concat" or len(shape.input) != 4:
        raise ModelBuildError("cannot tell the number of attention heads", where=str(path))
    name = shape.input[2]
    if name in constants:
        return int(numpy_helper.to_array(constants[name]).item())
    return int(numpy_helper.to_array(made_by[name].attribute[0].t).item())
