"""Any classifier becomes an entry that a worker can serve, or is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.adopt import Adopted, Adoption, adopt
from models.checkpoint import Asked
from models.errors import ModelSourceError, ParityError
from models.manifest import load_manifest
from models.parity import Bound
from models.scorer import OnnxScorer
from tests.models.architectures import ARCHITECTURES, SENTIMENT, WINDOW, write_classifier
from tests.models.bert_graph import LABELS
from tests.models.conftest import sentences

_MISSING = [name for name in ("torch", "transformers", "optimum") if find_spec(name) is None]
pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        bool(_MISSING),
        reason=f"needs {', '.join(_MISSING)}: pip install 'tidegate[models]'",
    ),
    # torch, transformers and optimum warn of each other.
    pytest.mark.filterwarnings("ignore"),
    # Each process imports torch and transformers anew; a busy machine takes its time for it.
    pytest.mark.timeout(600),
]
POSTS = sentences(120, seed=11)


def adopted(tmp_path: Path, source: Path, **how: Any) -> Adopted:
    asked = {key: how.pop(key) for key in ("task", "labels", "heads", "activation") if key in how}
    what = Adoption(
        name=how.pop("name", "mine"),
        source=str(source),
        manifest=tmp_path / "own" / "manifest.toml",
        posts=POSTS,
        asked=Asked(**asked),
        **how,
    )
    return adopt(what)


def scorer_of(found: Adopted) -> OnnxScorer:
    return OnnxScorer(load_manifest(found.manifest), "mine", device="cpu", threads=1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_agrees_with_pytorch_and_is_served(
    tmp_path: Path, architecture: str
) -> None:
    source = write_classifier(tmp_path / "source", architecture)
    found = adopted(tmp_path, source, task="sentiment", quantise="none")
    assert found.model.parity is not None
    assert found.model.parity.posts > 20
    assert found.model.parity.largest_change < 1e-3
    assert found.model.parity.agreement == 1.0
    # O2 fused something; what depends on the architecture.
    assert found.model.fused is not None
    assert found.model.fused["SkipLayerNormalization"] >= 2
    assert found.model.max_tokens == WINDOW
    scorer = scorer_of(found)
    # The bundled model answers the tasks that this one does not.
    scores = scorer.score(POSTS[:12])
    assert set(scores[0].tasks) == {"sentiment", "toxicity", "language"}
    assert scorer.models["sentiment"].id == "local/mine"
    assert scorer.models["language"].id != "local/mine"
    # Random as it is, the model tells posts apart: agreement is not that of a constant.
    assert len({s.tasks["sentiment"].score for s in scores}) > 6
    load_manifest(found.manifest).verify("mine")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_what_can_be_quantised_is(tmp_path: Path, architecture: str) -> None:
    source = write_classifier(tmp_path / "source", architecture)
    loose = Bound(change=0.6, agreement=0.5)  # random weights quantise badly
    found = adopted(tmp_path, source, task="sentiment", bound=loose)
    assert found.model.precision == "int8"
    assert found.model.fused is not None
    assert found.model.fused["MatMulIntegerToFloat"] == 12
    assert found.model.devices == ["cpu"]
    assert found.model.parity is not None
    assert 0 < found.model.parity.largest_change < 0.6


def test_what_cannot_be_quantised_is_served_in_fp32_and_said(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "distilbert")
    found = adopted(tmp_path, source, task="sentiment")
    assert found.model.precision == "fp32"
    (remark,) = found.remarks
    assert remark.startswith("no int8: the graph has no node")


def test_for_a_gpu_it_is_fp16(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "xlm-roberta")
    found = adopted(tmp_path, source, task="sentiment", target="gpu", bound=Bound(0.1, 0.9))
    assert found.model.precision == "fp16"
    assert found.model.devices == ["cuda", "cpu"]
    assert found.model.fused is not None
    assert found.model.fused["Attention"] == 2
    # Where there is no GPU the same graph answers on the CPU.
    assert scorer_of(found).score(["the sea is calm"])[0].tasks["sentiment"].label in SENTIMENT


def test_dynamic_int8_is_made_on_demand_and_warned_of(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "distilbert")
    found = adopted(tmp_path, source, task="sentiment", quantise="dynamic", bound=Bound(1.0, 0.0))
    assert found.model.precision == "dynamic-int8"
    assert "depends on its batch-mates" in found.remarks[0]


def test_several_labels_at_once(tmp_path: Path) -> None:
    source = write_classifier(
        tmp_path / "source", "roberta", ("toxicity", "Identity-Hate"),
        problem_type="multi_label_classification",
    )  # fmt: skip
    found = adopted(tmp_path, source, task="toxicity", quantise="none")
    head = found.model.heads["toxicity"]
    assert (head.activation, head.labels) == ("sigmoid", ["toxic", "identity_attack"])
    assert set(scorer_of(found).score(["you fool"])[0].tasks["toxicity"].scores) == set(head.labels)


def test_several_heads_by_their_names(tmp_path: Path) -> None:
    flat = [f"{task}/{label}" for task, labels in LABELS.items() for label in labels]
    # So says a model that was trained on several tasks at once: of all its logits.
    source = write_classifier(
        tmp_path / "source", "bert", flat, problem_type="multi_label_classification"
    )
    found = adopted(tmp_path, source, quantise="none")
    heads = found.model.heads
    assert {task: head.labels for task, head in heads.items()} == LABELS
    assert {task: head.activation for task, head in heads.items()} == {
        "sentiment": "softmax", "toxicity": "sigmoid", "language": "softmax",
    }  # fmt: skip
    assert load_manifest(found.manifest).presets["mine"] == ["mine"]


def test_several_heads_as_asked(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "distilbert", ("a", "b", "c", "d"))
    found = adopted(tmp_path, source, heads={"mood": (2, 4), "spam": (0, 2)}, quantise="none")
    heads = {task: (head.slice, head.labels) for task, head in found.model.heads.items()}
    assert heads == {"mood": ((2, 4), ["c", "d"]), "spam": ((0, 2), ["a", "b"])}
    assert set(scorer_of(found).models) == {"mood", "spam", "sentiment", "toxicity", "language"}


def test_labels_by_hand(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "bert", ("LABEL_0", "LABEL_1", "LABEL_2"))
    with pytest.raises(
        ModelSourceError, match="labels do not match the task `sentiment`"
    ) as caught:
        adopted(tmp_path, source, task="sentiment")
    assert "--labels A,B,C" in str(caught.value)
    assert not (tmp_path / "own").exists()
    found = adopted(
        tmp_path, source, task="sentiment", labels=["positive", "neutral", "negative"],
        quantise="none",
    )  # fmt: skip
    assert found.model.heads["sentiment"].labels[0] == "positive"


def test_a_graph_beyond_the_bound_leaves_nothing_behind(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "bert")
    with pytest.raises(ParityError, match="the graph answers otherwise than the PyTorch model"):
        adopted(tmp_path, source, task="sentiment", quantise="static", bound=Bound(1e-9, 1.0))
    assert list((tmp_path / "own").iterdir()) == []


def _spoil(source: Path, how: str) -> None:
    config = json.loads((source / "config.json").read_text("utf-8"))
    match how:
        case "weights":
            (source / "model.safetensors").write_bytes(b"\0" * 64)
        case "no weights":
            (source / "model.safetensors").unlink()
        case "tokenizer":
            (source / "tokenizer.json").unlink()
        case "encoder alone":
            from transformers import AutoModel

            AutoModel.from_pretrained(source).save_pretrained(source)
            config["architectures"] = None
            (source / "config.json").write_text(json.dumps(config), "utf-8")
        case "another kind":
            config["architectures"] = ["BertForMaskedLM"]
            (source / "config.json").write_text(json.dumps(config), "utf-8")
        case "own code":
            config |= {"model_type": "their-own", "auto_map": {"AutoConfig": "code.Config"}}
            (source / "config.json").write_text(json.dumps(config), "utf-8")
            (source / "code.py").write_text("raise SystemExit('run')", "utf-8")
        case _:
            (source / "config.json").unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("weights", "the model cannot be loaded"),
        ("no weights", "the model cannot be loaded"),
        ("tokenizer", "no tokenizer beside the model"),
        ("encoder alone", r"the weights lack `classifier\.bias` and 1 more"),
        ("another kind", "`BertForMaskedLM` is not a text classifier"),
        ("own code", "the model brings code of its own, which is never run here"),
        ("config", r"no `config\.json`"),
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path: Path, how: str, message: str) -> None:
    source = write_classifier(tmp_path / "source", "bert")
    _spoil(source, how)
    with pytest.raises(ModelSourceError, match=message) as caught:
        adopted(tmp_path, source, task="sentiment")
    assert caught.value.hint is not None
    assert not (tmp_path / "own" / "manifest.toml").exists()


@pytest.mark.parametrize(
    ("labels", "asked", "message"),
    [
        (SENTIMENT, {}, "what is the task of the labels `negative`, `neutral`, `positive`"),
        (SENTIMENT, {"task": "language"}, "labels do not match the task `language`"),
        (("pos", "positive", "neg"), {"task": "sentiment"}, "two of the model's labels mean"),
        (SENTIMENT, {"task": "sentiment", "labels": ["negative"]}, "1 labels were given"),
        (SENTIMENT, {"heads": {"mood": (1, 9)}}, "head `mood`: the model has logits 0 to 2"),
    ],
)
def test_labels_that_cannot_be_used(
    tmp_path: Path, labels: Sequence[str], asked: dict[str, Any], message: str
) -> None:
    source = write_classifier(tmp_path / "source", "bert", labels)
    with pytest.raises(ModelSourceError, match=message):
        adopted(tmp_path, source, **asked)


def test_offline_and_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelSourceError, match="`HF_HUB_OFFLINE` is set") as caught:
        adopted(tmp_path, Path("nobody/nothing"), task="sentiment")
    assert "give a folder" in str(caught.value.hint)
