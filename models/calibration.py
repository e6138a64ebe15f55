"""Measures what goes into each matrix product of the fp32 graph, and smooths it for 8 bits.

Padding is left out everywhere: it never reaches a score, so it must not widen a range. Smoothing
is SmoothQuant (Xiao et al. 2023, arXiv:2211.10438); its strength is chosen per tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.batch import Batch
from models.devices import available_threads
from models.errors import ModelBuildError

Array = NDArray[np.float32]

#: How much of the difficulty of quantising may move from the inputs to the weights.
STRENGTHS: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
#: Vectors kept of each batch to choose a strength with; a few thousand in all are enough.
_KEPT_PER_BATCH = 160
_SMALL = 1e-5


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tensor held: smallest and largest value of each channel, and some of its vectors."""

    low: Array
    high: Array
    some: Array


@dataclass(frozen=True, slots=True)
class InputScale:
    """How a tensor becomes uint8: divided by `factors`, then by `scale`, then moved by `zero`."""

    factors: Array
    scale: np.float32
    zero: np.uint8


def observe(graph: Path, tensors: Sequence[str], batches: Iterable[Batch]) -> dict[str, Seen]:
    """Run `batches` through the fp32 graph and say what each named tensor held.

    Raises:
        ModelBuildError: there were no batches.
    """
    import onnxruntime as ort

    model = onnx.load(graph)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_threads()
    # Fusions would remove some of the tensors that are asked for.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {node.name for node in session.get_inputs()}
    random = np.random.default_rng(0)
    low: dict[str, list[Array]] = {name: [] for name in tensors}
    high: dict[str, list[Array]] = {name: [] for name in tensors}
    some: dict[str, list[Array]] = {name: [] for name in tensors}
    for batch in batches:
        feeds: dict[str, Any] = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": np.zeros_like(batch.input_ids),
        }
        values = session.run(list(tensors), {k: v for k, v in feeds.items() if k in inputs})
        real = batch.attention_mask.astype(bool)
        count = int(real.sum())
        kept = random.choice(count, min(count, _KEPT_PER_BATCH), replace=False)
        for name, value in zip(tensors, values, strict=True):
            vectors = value[real]
            low[name].append(vectors.min(axis=0))
            high[name].append(vectors.max(axis=0))
            some[name].append(vectors[kept])
    if not any(low.values()):
        raise ModelBuildError("no posts to calibrate with")
    return {
        name: Seen(
            np.min(low[name], axis=0), np.max(high[name], axis=0), np.concatenate(some[name])
        )
        for name in tensors
    }


def smoothing_factors(seen: Seen, weight: Array, strength: float) -> Array:
    """Factor per input channel: the input is divided by it, the weight's row multiplied.

    max|x_j|^a / max|w_j|^(1-a), equation 4 of the paper.
    """
    # A channel that is always 0 needs no factor, and its 0 must not become a divisor.
    largest_x = np.maximum(np.maximum(-seen.low, seen.high), _SMALL)
    largest_w = np.maximum(np.abs(weight).max(axis=1), _SMALL)
    factors: Array = (largest_x**strength / largest_w ** (1.0 - strength)).astype(np.float32)
    return factors


def input_scale(seen: Seen, factors: Array) -> InputScale:
    """The fixed uint8 scale of a tensor that is divided by `factors` first."""
    low = min(0.0, float((seen.low / factors).min()))
    high = max(0.0, float((seen.high / factors).max()))
    scale = np.float32(max(high - low, 1e-8) / 255.0)
    return InputScale(factors, scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255)))


def weight_int8(weight: Array, axis: int) -> tuple[NDArray[np.int8], Array]:
    """int8 values and the scale of each slice; the largest value along `axis` becomes 127."""
    largest = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), 1e-8)
    scale = (largest / 127.0).astype(np.float32)
    return np.rint(weight / scale).clip(-127, 127).astype(np.int8), scale


def product_error(seen: Seen, weight: Array, scale: InputScale) -> Array:
    """What 8 bits add to `some @ weight`: one row a kept vector, one column an output."""
    whole = np.rint(seen.some / scale.factors / scale.scale) + float(scale.zero)
    inputs = (whole.clip(0, 255) - float(scale.zero)) * scale.scale
    values, weight_scale = weight_int8(weight * scale.factors[:, None], axis=0)
    error: Array = inputs @ (values * weight_scale) - seen.some @ weight
    return error.astype(np.float32, copy=False)


def choose_scale(
    seen: Seen, weight: Array, strengths: Sequence[float] = STRENGTHS
) -> tuple[InputScale, Array]:
    """The scale with the smallest squared error of the product, and that error's mean.

    The mean is a constant per output: taken off the bias, it costs nothing.
    """
    best: tuple[float, InputScale, Array] | None = None
    for strength in strengths:
        scale = input_scale(seen, smoothing_factors(seen, weight, strength))
        error = product_error(seen, weight, scale)
        squared = float(np.square(error).mean())
        if best is None or squared < best[0]:
            best = (squared, scale, error.mean(axis=0))
    if best is None:
        raise ValueError("no strengths to choose from")
    return best[1], best[2]
