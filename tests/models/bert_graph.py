"""A small BERT classifier in fp32, written by hand with the node names of Optimum's export.

It is the reference for what reads and quantises such graphs: plain operators only, and one input
channel of each layer far larger than the others, as real encoders have them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

HIDDEN, WIDE, HEADS, LAYERS, POSITIONS = 32, 64, 4, 2, 32
LABELS = {
    "sentiment": ["negative", "neutral", "positive"],
    "toxicity": ["toxic", "insult"],
    "language": ["de", "en", "fr", "it"],
}
FLAT_LABELS = [f"{task}/{label}" for task, labels in LABELS.items() for label in labels]
WORDS = [
    "the",
    "a",
    "sea",
    "is",
    "calm",
    "today",
    "and",
    "we",
    "like",
    "it",
    "very",
    "much",
    "storm",
    "came",
    "over",
    "night",
    "boats",
    "were",
    "lost",
    "no",
    "harm",
    "done",
    "lovely",
    "evening",
    "dreadful",
    "morning",
    "you",
    "are",
    "fool",
    "das",
    "meer",
    "ist",
    "ruhig",
    "heute",
    "la",
    "mer",
    "est",
    "calme",
    "il",
    "mare",
    "oggi",
    "bello",
]


def write_tokenizer(path: Path) -> Tokenizer:
    """A Unigram tokenizer of a few words and the single letters, saved as `path`."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{w}" for w in WORDS)]
    vocab = [(piece, -float(i) / 10) for i, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(Unigram(vocab, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(path))
    return tokenizer


class _Graph:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, name: str, *shape: int, spread: float = 0.3) -> str:
        return self.constant(name, self.random.normal(0, spread, shape).astype(np.float32))

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = f"{name}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def dense(self, at: str, x: str, inputs: int, outputs: int) -> str:
        product = self.add("MatMul", [x, self.weights(f"{at}.w", inputs, outputs)], f"{at}/MatMul")
        return self.add("Add", [self.weights(f"{at}.b", outputs), product], f"{at}/Add")

    def norm(self, at: str, x: str, loud: int | None = None) -> str:
        gain = self.random.normal(1, 0.1, HIDDEN).astype(np.float32)
        if loud is not None:
            gain[loud] = 25.0
        parts = [self.constant(f"{at}.g", gain), self.weights(f"{at}.b", HIDDEN, spread=0.1)]
        return self.add(
            "LayerNormalization", [x, *parts], f"{at}/LayerNormalization", axis=-1, epsilon=1e-12
        )


def _attention(g: _Graph, at: str, x: str) -> str:
    size = HIDDEN // HEADS
    shape = g.add("Shape", [x], f"{at}/Shape")
    batch = g.add("Gather", [shape, g.constant(f"{at}.0", np.array([0]))], f"{at}/Gather")
    numbers = [g.constant(f"{at}.n{i}", np.array([n])) for i, n in enumerate((-1, HEADS, size))]
    fold = g.add("Concat", [batch, *numbers], f"{at}/Concat", axis=0)
    folded = {}
    for i, name in enumerate(("query", "key", "value")):
        y = g.dense(f"{at}/{name}", x, HIDDEN, HIDDEN)
        y = g.add("Reshape", [y, fold], f"{at}/Reshape" + (f"_{i}" if i else ""))
        order = [0, 2, 3, 1] if name == "key" else [0, 2, 1, 3]
        folded[name] = g.add("Transpose", [y], f"{at}/Transpose_{i}", perm=order)
    scores = g.add("MatMul", [folded["query"], folded["key"]], f"{at}/MatMul")
    scale = g.constant(f"{at}.scale", np.float32(1 / np.sqrt(size)))
    scores = g.add("Add", [g.add("Mul", [scores, scale], f"{at}/Mul"), "mask"], f"{at}/Add")
    shares = g.add("Softmax", [scores], f"{at}/Softmax", axis=-1)
    mixed = g.add("MatMul", [shares, folded["value"]], f"{at}/MatMul_1")
    mixed = g.add("Transpose", [mixed], f"{at}/Transpose_3", perm=[0, 2, 1, 3])
    back = g.constant(f"{at}.back", np.array([0, 0, HIDDEN]))
    return g.add("Reshape", [mixed, back], f"{at}/Reshape_3")


def _layer(g: _Graph, number: int, x: str) -> str:
    at = f"/bert/encoder/layer.{number}"
    context = _attention(g, f"{at}/attention/self", x)
    y = g.dense(f"{at}/attention/output/dense", context, HIDDEN, HIDDEN)
    y = g.add("Add", [y, x], f"{at}/attention/output/Add")
    x = g.norm(f"{at}/attention/output/LayerNorm", y, loud=3)
    wide = g.dense(f"{at}/intermediate/dense", x, HIDDEN, WIDE)
    act = f"{at}/intermediate/intermediate_act_fn"
    root = g.constant(f"{act}.root", np.float32(np.sqrt(2)))
    part = g.add("Erf", [g.add("Div", [wide, root], f"{act}/Div")], f"{act}/Erf")
    part = g.add("Add", [part, g.constant(f"{act}.one", np.float32(1))], f"{act}/Add")
    part = g.add("Mul", [wide, part], f"{act}/Mul")
    wide = g.add("Mul", [part, g.constant(f"{act}.half", np.float32(0.5))], f"{act}/Mul_1")
    y = g.dense(f"{at}/output/dense", wide, WIDE, HIDDEN)
    return g.norm(f"{at}/output/LayerNorm", g.add("Add", [y, x], f"{at}/output/Add"), loud=7)


def write_graph(path: Path, pieces: int, seed: int = 0) -> None:
    """Save the classifier for a vocabulary of `pieces` as `path`."""
    g = _Graph(seed)
    at = "/bert/embeddings"
    words = g.add(
        "Gather", [g.weights("words", pieces, HIDDEN), "input_ids"], f"{at}/word_embeddings/Gather"
    )
    types = g.add(
        "Gather",
        [g.weights("types", 2, HIDDEN), "token_type_ids"],
        f"{at}/token_type_embeddings/Gather",
    )
    length = g.add("Shape", ["input_ids"], "/bert/length", start=1, end=2)
    zero = g.constant("zero", np.array([0]))
    table = g.constant("position_ids", np.arange(POSITIONS))
    ids = g.add("Slice", [table, zero, length], f"{at}/Slice")
    positions = g.add(
        "Gather",
        [g.weights("positions", POSITIONS, HIDDEN), ids],
        f"{at}/position_embeddings/Gather",
    )
    x = g.add("Add", [g.add("Add", [words, types], f"{at}/Add"), positions], f"{at}/Add_1")
    x = g.norm(f"{at}/LayerNorm", x, loud=5)
    real = g.add("Cast", ["attention_mask"], "/bert/Cast", to=TensorProto.FLOAT)
    axes = g.constant("axes", np.array([1, 2]))
    real = g.add("Unsqueeze", [real, axes], "/bert/Unsqueeze")
    absent = g.add("Sub", [g.constant("one", np.float32(1)), real], "/bert/Sub")
    g.nodes.append(
        helper.make_node(
            "Mul", [absent, g.constant("low", np.float32(-1e9))], ["mask"], name="/bert/Mul"
        )
    )
    for number in range(LAYERS):
        x = _layer(g, number, x)
    first = g.add("Gather", [x, g.constant("cls", np.array(0))], "/bert/pooler/Gather", axis=1)
    parts = [g.weights("pooler.w", HIDDEN, HIDDEN), g.weights("pooler.b", HIDDEN)]
    pooled = g.add("Gemm", [first, *parts], "/bert/pooler/dense/Gemm", transB=1)
    pooled = g.add("Tanh", [pooled], "/bert/pooler/activation/Tanh")
    width = len(FLAT_LABELS)
    parts = [g.weights("classifier.w", width, HIDDEN), g.weights("classifier.b", width)]
    g.nodes.append(
        helper.make_node("Gemm", [pooled, *parts], ["logits"], name="/classifier/Gemm", transB=1)
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])
    graph = helper.make_graph(g.nodes, "bert", inputs, [output], g.constants)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    onnx.save(model, path)
