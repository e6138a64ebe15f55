"""`tidegate models add | export | remove` as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from models.manifest import Head, Model, Source, load_manifest
from models.manifest_writing import manifest_toml
from tests.models.architectures import SENTIMENT, write_classifier

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        find_spec("optimum") is None, reason="needs optimum: pip install 'tidegate[models]'"
    ),
    # Each process imports torch and transformers anew; a busy machine takes its time for it.
    pytest.mark.timeout(600),
]


def tidegate(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "stream", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**clean, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
        check=False,
    )


def test_add_serve_verify_remove(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "mood-model", "xlm-roberta")
    lax = ("--max-change", "1", "--min-agreement", "0.3")
    added = tidegate(tmp_path, "models", "add", source, "--task", "sentiment", *lax)
    assert added.returncode == 0, added.stderr
    assert "written to .tidegate/models/manifest.toml" in added.stdout
    assert "TIDEGATE_MODELS__PRESET=mood-model" in added.stdout
    assert "int8" in added.stdout
    assert "Traceback" not in added.stderr
    again = tidegate(tmp_path, "models", "add", source, "--task", "sentiment")
    assert again.returncode == 2
    assert "there is a model `mood-model` already" in again.stderr
    listed = json.loads(tidegate(tmp_path, "models", "list", "--json").stdout)
    assert {"mood-model", "compact"} <= set(listed["models"])
    assert tidegate(tmp_path, "models", "verify", "mood-model").returncode == 0
    graph = tmp_path / ".tidegate" / "models" / "mood-model" / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"\0")
    assert tidegate(tmp_path, "models", "verify", "mood-model").returncode == 1
    removed = tidegate(tmp_path, "models", "remove", "mood-model", "--json")
    assert json.loads(removed.stdout)["removed"] == "mood-model"
    assert not graph.exists()


def test_a_graph_that_does_not_agree_exits_with_3(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "mood-model", "bert")
    refused = tidegate(
        tmp_path, "models", "add", source, "--task", "sentiment",
        "--quantise", "static", "--max-change", "0",
    )  # fmt: skip
    assert refused.returncode == 3
    assert "the graph answers otherwise than the PyTorch model" in refused.stderr
    assert not (tmp_path / ".tidegate" / "models" / "manifest.toml").exists()


def test_export_fulfils_a_plan_and_its_labels_must_be_the_models(tmp_path: Path) -> None:
    source = write_classifier(tmp_path / "source", "distilbert")
    head = Head(activation="softmax", slice=(0, 3), labels=list(SENTIMENT), languages=["en"])
    plan = Model(
        id="team/mood", version="not exported", licence="MIT", folder="mood", graph="model.onnx",
        tokenizer="tokenizer.json", max_tokens=16, files={}, heads={"sentiment": head},
        source=Source(id=str(source)),
    )  # fmt: skip
    path = tmp_path / "manifest.toml"
    path.write_text(manifest_toml({"mood": ["mood"]}, {"mood": plan}), "utf-8")
    done = tidegate(tmp_path, "models", "export", "mood", "--manifest", path, "--json")
    assert done.returncode == 0, done.stderr
    model = load_manifest(path).models["mood"]
    assert model.exported
    assert (model.licence, model.max_tokens) == ("MIT", 16)
    assert model.heads["sentiment"].languages == ["en"]
    assert model.parity is not None

    heads = {
        "sentiment": msgspec.structs.replace(head, labels=["negative", "positive"], slice=(0, 2))
    }
    wrong = msgspec.structs.replace(plan, heads=heads)
    path.write_text(manifest_toml({"mood": ["mood"]}, {"mood": wrong}), "utf-8")
    refused = tidegate(tmp_path, "models", "export", "mood", "--manifest", path)
    assert refused.returncode == 1
    assert "2 labels were given and the model has 3 logits" in refused.stderr


def test_the_hub_preset_without_network_says_what_to_do(tmp_path: Path) -> None:
    failed = tidegate(tmp_path, "models", "export", "hub")
    assert failed.returncode == 1
    assert (
        "cannot get `cardiffnlp/twitter-xlm-roberta-base-sentiment` from the Hub" in failed.stderr
    )
    assert "`HF_HUB_OFFLINE` is set" in failed.stderr
