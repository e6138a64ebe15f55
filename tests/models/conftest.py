"""A small model that is quick to load, quantised once, and the bundled one."""

from __future__ import annotations

import random
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

from models.batch import pad_batches
from models.manifest import Head, Manifest, Model, load_manifest, sha256_of
from models.manifest_writing import manifest_toml
from models.quantise import quantise
from models.scorer import OnnxScorer
from tests.models.bert_graph import FLAT_LABELS, LABELS, WORDS, write_graph, write_tokenizer

MAX_TOKENS = 16
#: For every test that takes `device`: on the GPU, too, where onnxruntime has its provider.
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            "CUDAExecutionProvider" not in ort.get_available_providers()
            or shutil.which("nvidia-smi") is None,
            reason="needs an NVIDIA GPU and onnxruntime-gpu: pip install 'tidegate[gpu]'",
        ),
    ),
]


@dataclass(frozen=True)
class SmallModel:
    """A folder with `manifest.toml`, `small/` (int8) and `fp32.onnx`."""

    folder: Path

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.toml"

    @property
    def fp32(self) -> Path:
        return self.folder / "fp32.onnx"

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.manifest_path)

    def scorer(self, batch_tokens: int = 256) -> OnnxScorer:
        return OnnxScorer(
            self.manifest, "small", device="cpu", threads=1, batch_tokens=batch_tokens
        )


def sentences(count: int, seed: int = 0) -> list[str]:
    """Made-up sentences of the small model's words, 1 to 30 words long."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(count)]


def small_heads() -> dict[str, Head]:
    heads, start = {}, 0
    for task, labels in LABELS.items():
        stop = start + len(labels)
        toxic = task == "toxicity"
        heads[task] = Head(
            activation="sigmoid" if toxic else "softmax",
            slice=(start, stop),
            labels=labels,
            thresholds=dict.fromkeys(labels, 0.5) if toxic else {},
            languages=["de", "en"] if task != "language" else [],
            top=3 if task == "language" else 0,
        )
        start = stop
    return heads


@pytest.fixture(scope="session")
def built_small_model(tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    folder = tmp_path_factory.mktemp("small-model")
    model = folder / "small"
    model.mkdir()
    tokenizer = write_tokenizer(model / "tokenizer.json")
    write_graph(folder / "fp32.onnx", tokenizer.get_vocab_size())
    tokenizer.enable_truncation(MAX_TOKENS)
    tokens = [e.ids for e in tokenizer.encode_batch_fast(sentences(200))]
    batches = pad_batches(tokens, 512, tokenizer.token_to_id("<pad>"))
    quantise(folder / "fp32.onnx", model / "model.onnx", FLAT_LABELS, batches)
    entry = Model(
        id="test/small",
        version="1",
        licence="Apache-2.0",
        folder="small",
        graph="model.onnx",
        tokenizer="tokenizer.json",
        max_tokens=MAX_TOKENS,
        files={name: sha256_of(model / name) for name in ("model.onnx", "tokenizer.json")},
        heads=small_heads(),
    )
    (folder / "manifest.toml").write_text(
        manifest_toml({"small": ["small"]}, {"small": entry}), "utf-8"
    )
    return SmallModel(folder)


@pytest.fixture(scope="session")
def exact_and_half(
    built_small_model: SmallModel, tmp_path_factory: pytest.TempPathFactory
) -> Manifest:
    """The small model as a GPU takes it: presets `fp32` and `fp16` of the same weights."""
    folder = tmp_path_factory.mktemp("gpu-model")
    plain = built_small_model.manifest.models["small"]
    models: dict[str, Model] = {}
    precisions: tuple[Literal["fp32", "fp16"], ...] = ("fp32", "fp16")
    for precision in precisions:
        at = folder / precision
        at.mkdir()
        shutil.copy(built_small_model.folder / "small" / "tokenizer.json", at)
        graph = onnx.load(built_small_model.fp32)
        if precision == "fp16":
            with warnings.catch_warnings():
                # The weights that fp16 rounds to nothing, and the mask's low that it cannot hold.
                warnings.simplefilter("ignore")
                graph = convert_float_to_float16(graph, keep_io_types=True)
        onnx.save(graph, at / "model.onnx")
        models[precision] = msgspec.structs.replace(
            plain,
            folder=precision,
            precision=precision,
            devices=["cuda", "cpu"],
            files={name: sha256_of(at / name) for name in ("model.onnx", "tokenizer.json")},
        )
    path = folder / "manifest.toml"
    path.write_text(manifest_toml({name: [name] for name in models}, models), "utf-8")
    return load_manifest(path)


@pytest.fixture
def small_model(built_small_model: SmallModel, tmp_path: Path) -> SmallModel:
    """A copy that a test may spoil."""
    folder = tmp_path / "model"
    shutil.copytree(built_small_model.folder, folder)
    return SmallModel(folder)


@pytest.fixture(scope="session")
def bundled_scorer() -> OnnxScorer:
    return OnnxScorer(load_manifest(), "compact", device="cpu")
