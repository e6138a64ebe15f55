"""Writes an encoder as a static int8 graph whose scores do not depend on a text's batch-mates.

Every scale is fixed here, from posts of the training data; nothing is measured while scoring.
Word embeddings and encoder products become int8, everything else stays fp32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.batch import Batch
from models.calibration import (
    STRENGTHS,
    Array,
    InputScale,
    Seen,
    choose_scale,
    observe,
    weight_int8,
)
from models.encoder import Encoder, Norm, read_encoder
from models.errors import ModelBuildError
from models.session import LABELS_METADATA

_CONTRIB: Final = "com.microsoft"
#: What the attention adds where there is padding: exp of it is exactly 0 in fp32.
_MASKED: Final = -10_000.0
_ATTENTION = ("query", "key", "value")


@dataclass(slots=True)
class _Graph:
    """A graph under construction: nodes in order, constants by name. A node is called as its output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(
        self, op: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any
    ) -> str:
        self.nodes.append(
            helper.make_node(op, inputs, [name], name=name, domain=domain or None, **attributes)
        )
        return name


class _Writer:
    """Writes the int8 graph of `encoder`, node by node."""

    def __init__(
        self, encoder: Encoder, seen: Mapping[str, Seen], strengths: Sequence[float]
    ) -> None:
        self.encoder = encoder
        self.seen = seen
        self.strengths = strengths
        self.graph = _Graph()

    def model(self, labels: Sequence[str]) -> onnx.ModelProto:
        g, encoder = self.graph, self.encoder
        g.add("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
        x = self._embeddings()
        last = len(encoder.layers) - 1
        for number in range(len(encoder.layers)):
            # The classifier reads the first token only, so the last layer makes no others.
            x = self._layer(number, x, first_only=number == last)
        x = g.add("Squeeze", [x, g.constant("one", np.array([1], np.int64))], "first")
        x = g.add(
            "Gemm",
            [
                x,
                g.constant("pooler.weight", encoder.pooler.weight),
                g.constant("pooler.bias", encoder.pooler.bias),
            ],
            "pooler",
        )
        g.add(
            "Gemm",
            [
                g.add("Tanh", [x], "pooled"),
                g.constant("classifier.weight", encoder.classifier.weight),
                g.constant("classifier.bias", encoder.classifier.bias),
            ],
            "logits",
        )
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", len(labels)])
        model = helper.make_model(
            helper.make_graph(g.nodes, "tidegate", inputs, [output], list(g.constants.values())),
            producer_name="tidegate",
            ir_version=9,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(_CONTRIB, 1)],
        )
        helper.set_model_props(model, {LABELS_METADATA: json.dumps(list(labels))})
        return model

    def _embeddings(self) -> str:
        g, encoder = self.graph, self.encoder
        values, scale = weight_int8(encoder.words, axis=1)
        rows = g.add("Gather", [g.constant("words", values), "input_ids"], "words.int8")
        scales = g.add("Gather", [g.constant("words.scales", scale), "input_ids"], "words.scale")
        words = g.add("Cast", [rows], "words.float", to=TensorProto.FLOAT)
        words = g.add("Mul", [words, scales], "words.value")
        length = g.add("Shape", ["input_ids"], "length", start=1, end=2)
        positions = g.add(
            "Slice",
            [
                g.constant("positions", encoder.positions),
                g.constant("zero", np.array([0], np.int64)),
                length,
            ],
            "positions.used",
        )
        x = g.add("Add", [words, positions], "embeddings.sum")
        return self._norm("embeddings", x, encoder.norm)

    def _layer(self, number: int, x: str, *, first_only: bool) -> str:
        g, at, layer = self.graph, f"layer{number}", self.encoder.layers[number]
        dense = layer.dense
        # The values' product is divided by the context's factors: the context is linear in the
        # values, so it comes out divided already, and no node has to do it.
        out_scale, out_shift = self._scale("context", number)
        divide: dict[str, Array | float] = {"query": 1.0, "key": 1.0, "value": out_scale.factors}
        scale, shift = self._scale("query", number)
        shared = self._uint8(f"{at}.attention.in", x, scale)
        query_reads, skip = shared, x
        if first_only:
            first = [
                g.constant("zero", np.array([0], np.int64)),
                *[g.constant("one", np.array([1], np.int64))] * 2,
            ]
            skip = g.add("Slice", [x, *first], f"{at}.first")
            query_reads = [g.add("Slice", [shared[0], *first], f"{at}.first.uint8"), *shared[1:]]
        projected = [
            self._product(
                f"{at}.{name}",
                query_reads if name == "query" else shared,
                dense[name].weight * scale.factors[:, None] / divide[name],
                (dense[name].bias - part) / divide[name],
            )
            for name, part in zip(_ATTENTION, np.split(shift, 3), strict=True)
        ]
        context = g.add(
            "MultiHeadAttention",
            [*projected, "", "mask"],
            f"{at}.context",
            _CONTRIB,
            num_heads=self.encoder.heads,
            mask_filter_value=_MASKED,
        )
        mixed = self._product(
            f"{at}.attention.out",
            self._uint8(f"{at}.context.in", context, out_scale, divided=True),
            dense["context"].weight * out_scale.factors[:, None],
            dense["context"].bias - out_shift,
        )
        x = g.add("Add", [mixed, skip], f"{at}.attention.sum")
        x = self._norm(f"{at}.attention.norm", x, layer.attention_norm)
        wide = g.add("Gelu", [self._dense("widen", number, x)], f"{at}.gelu", _CONTRIB)
        narrow = self._dense("narrow", number, wide)
        return self._norm(f"{at}.norm", g.add("Add", [narrow, x], f"{at}.sum"), layer.output_norm)

    def _dense(self, name: str, number: int, x: str) -> str:
        dense = self.encoder.layers[number].dense[name]
        scale, shift = self._scale(name, number)
        at = f"layer{number}.{name}"
        return self._product(
            at,
            self._uint8(f"{at}.in", x, scale),
            dense.weight * scale.factors[:, None],
            dense.bias - shift,
        )

    def _scale(self, name: str, number: int) -> tuple[InputScale, Array]:
        """Scale of the input of a product, and the mean error that its bias takes off."""
        dense = self.encoder.layers[number].dense
        weight = dense[name].weight
        if name == "query":
            # Queries, keys and values read the same tensor, so they share its scale.
            weight = np.concatenate([dense[part].weight for part in _ATTENTION], axis=1)
        return choose_scale(self.seen[dense[name].reads], weight, self.strengths)

    def _norm(self, name: str, x: str, norm: Norm) -> str:
        g = self.graph
        constants = [g.constant(f"{name}.gain", norm.gain), g.constant(f"{name}.bias", norm.bias)]
        return g.add(
            "LayerNormalization", [x, *constants], name, axis=-1, epsilon=self.encoder.epsilon
        )

    def _uint8(self, name: str, x: str, scale: InputScale, *, divided: bool = False) -> list[str]:
        """`x` in uint8, and the names of its scale and zero point."""
        g = self.graph
        if not divided:
            inverse = g.constant(f"{name}.factors", (1.0 / scale.factors).astype(np.float32))
            x = g.add("Mul", [x, inverse], f"{name}.smooth")
        constants = [
            g.constant(f"{name}.scale", scale.scale),
            g.constant(f"{name}.zero", scale.zero),
        ]
        return [g.add("QuantizeLinear", [x, *constants], f"{name}.uint8"), *constants]

    def _product(self, name: str, x: Sequence[str], weight: Array, bias: Array) -> str:
        """What `_uint8` gave times `weight`, plus `bias`, in fp32."""
        g = self.graph
        values, scale = weight_int8(weight.astype(np.float32), axis=0)
        inputs = [
            x[0],
            g.constant(f"{name}.weight", values),
            x[1],
            g.constant(f"{name}.weight.scale", scale[0]),
            x[2],
            g.constant(f"{name}.weight.zero", np.zeros(values.shape[1], np.int8)),
            g.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        return g.add("MatMulIntegerToFloat", inputs, name, _CONTRIB)


def quantise(
    source: Path,
    out: Path,
    labels: Sequence[str],
    batches: Iterable[Batch],
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> None:
    """Write the int8 form of the fp32 export `source` to `out`.

    Args:
        source: what `models.export` wrote.
        out: the file to write.
        labels: `task/label` of every logit; they go into the graph's metadata.
        batches: tokenised posts of the training data to take the scales from.
        strengths: of the smoothing, to choose from for every tensor.

    Raises:
        ModelBuildError: the graph is not a BERT classifier, or the labels are not its logits'.
    """
    encoder = read_encoder(source)
    width = encoder.classifier.weight.shape[1]
    if width != len(labels):
        raise ModelBuildError(
            f"{len(labels)} labels do not match a classifier of {width} logits", where=str(source)
        )
    tensors = sorted({dense.reads for layer in encoder.layers for dense in layer.dense.values()})
    model = _Writer(encoder, observe(source, tensors, batches), strengths).model(labels)
    onnx.checker.check_model(model)
    part = out.with_suffix(".part")
    onnx.save(model, part)
    part.replace(out)
