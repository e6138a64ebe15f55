"""The same on every device: what is missing is named, and no way of running changes a score."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.buckets import STEPS, in_bucket, next_step
from models.devices import available_threads, choose_device, providers_of, what_is_missing
from models.errors import ModelRuntimeError
from models.manifest import load_manifest
from models.scorer import OnnxScorer
from models.session import GraphSession, SessionOptions
from tests.models.conftest import DEVICES, SmallModel, sentences
from tests.models.test_scorer import POSTS, assert_same

WAYS = {
    "plain": SessionOptions(sessions=1, binding=False, buckets=False),
    "bound": SessionOptions(sessions=1, binding=True, buckets=False),
    "buckets": SessionOptions(sessions=1, binding=False, buckets=True),
    "two sessions": SessionOptions(sessions=2, binding=False, buckets=False),
    "as on a GPU": SessionOptions(sessions=2, binding=True, buckets=True),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", WAYS)
def test_no_way_of_running_changes_a_logit(
    built_small_model: SmallModel, device: str, way: str
) -> None:
    scorer = built_small_model.scorer()
    prepared = scorer.prepare(sentences(90, seed=5))
    exact, other = (
        GraphSession(
            built_small_model.fp32, device=on, runs_on=["cpu", "cuda"], threads=1, pad_id=1,
            most_tokens=16, options=options,
        )
        for on, options in (("cpu", WAYS["plain"]), (device, WAYS[way]))
    )  # fmt: skip
    expected = scorer.infer_with(exact, prepared)
    found = scorer.infer_with(other, prepared)
    assert np.abs(found - expected).max() < (1e-4 if device == "cpu" else 2e-2)
    assert other.facts.sessions == (WAYS[way].sessions or 1)
    assert other.facts.provider == ("CPU" if device == "cpu" else "CUDA") + "ExecutionProvider"
    assert other.facts.warm_up_s >= 0


def test_the_bundled_model_scores_the_same_in_buckets_and_on_two_sessions() -> None:
    plain, other = (
        OnnxScorer(
            load_manifest(), "compact", device="cpu", threads=1, batch_tokens=256, options=options
        )
        for options in (WAYS["plain"], WAYS["as on a GPU"])
    )
    for found, expected in zip(other.score(POSTS), plain.score(POSTS), strict=True):
        assert_same(found, expected)


def test_facts_of_what_runs(bundled_scorer: OnnxScorer) -> None:
    facts = bundled_scorer.facts[0]
    assert facts.session.device == "cpu"
    assert facts.session.provider == "CPUExecutionProvider"
    assert (facts.session.sessions, facts.session.threads) == (available_threads(), 1)
    assert facts.session.remark is None


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this machine has a GPU"
)
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_gpu_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ModelRuntimeError) as caught:
        choose_device(device, ["cuda", "cpu"], ort.get_available_providers())
    said = str(caught.value)
    assert f"device `{device}` was asked for" in said
    assert "the package `onnxruntime-gpu` is not installed" in said
    assert "tidegate[gpu]" in said


def test_what_is_missing_never_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.devices.version_of", lambda _package: "1.27.0")
    monkeypatch.setattr("models.devices._loads", lambda names: "libcudnn.so.9" not in names)
    assert what_is_missing() == ["cuDNN 9 is not installed: none of `libcudnn.so.9` can be loaded"]
    monkeypatch.setattr("models.devices._loads", lambda _names: True)
    assert "versions do not fit" in what_is_missing()[0]
    monkeypatch.setattr("models.devices._loads", lambda names: "libcuda.so.1" not in names)
    assert what_is_missing() == ["no NVIDIA driver: `libcuda.so.1` cannot be loaded"]


def test_tensorrt_runs_what_cuda_runs_and_falls_back_by_operator(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("engines"))
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_device("tensorrt:1", ["cuda"], there) == ("tensorrt", 1)
    names = [p if isinstance(p, str) else p[0] for p in providers_of("tensorrt", 1)]
    assert names == there
    with pytest.raises(ModelRuntimeError, match="the model is made for `cpu`, not for `tensorrt`"):
        choose_device("tensorrt", ["cpu"], there)


@given(st.integers(1, 5000))
def test_a_bucket_holds_and_is_not_much_larger(size: int) -> None:
    step = next_step(size)
    assert step >= size
    assert size < 8 or step <= size * 2
    assert next_step(step) == step
    assert step in STEPS or step % STEPS[-1] == 0


@given(st.integers(1, 40), st.integers(2, 60))
def test_padding_to_a_bucket_is_masked(rows: int, tokens: int) -> None:
    ids = np.arange(2, 2 + rows * tokens, dtype=np.int64).reshape(rows, tokens)
    padded = in_bucket({"input_ids": ids, "attention_mask": np.ones_like(ids)}, 1, 64)
    found, mask = padded["input_ids"], padded["attention_mask"]
    assert found.shape == mask.shape
    assert found.shape[1] <= 64
    assert np.array_equal(found[:rows, :tokens], ids)
    assert (found[:rows, tokens:] == 1).all()
    assert mask[:rows].sum() == rows * tokens
    # Every added row has a token to look at.
    assert (mask[rows:].sum(axis=1) == 1).all()
