"""`tidegate models` as a user runs it: another process, its output and its exit code."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import models
from models.manifest import load_manifest
from tests.models.bert_graph import LABELS
from tests.models.conftest import SmallModel, sentences

TIDEGATE = Path(sys.executable).with_name("tidegate")


def tidegate(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")}
    return subprocess.run(
        [str(TIDEGATE), "models", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**clean, **variables},
        check=False,
    )


def write_dev_sets(folder: Path) -> Path:
    """Dev sets of the small model's tasks, plain and gzip; nothing in them is true."""
    folder.mkdir()
    texts = sentences(60, seed=4)
    sentiment = [
        f"s{i % 2}\ten\t{LABELS['sentiment'][i % 3]}\t{text}" for i, text in enumerate(texts)
    ]
    toxicity = [f"t\tde\t{i % 2}\t{(i % 3) - 1}\t{text}" for i, text in enumerate(texts)]
    language = [f"l\t{LABELS['language'][i % 4]}\t{text}" for i, text in enumerate(texts)]
    for task, columns, rows in (
        ("sentiment", "source\tlang\tlabel\ttext", sentiment),
        ("toxicity", "source\tlang\ttoxic\tinsult\ttext", toxicity),
    ):
        (folder / f"{task}.dev.tsv").write_text("\n".join([columns, *rows]) + "\n", "utf-8")
    with gzip.open(folder / "language.dev.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(["source\tlang\ttext", *language]) + "\n")
    return folder


def test_list_and_show(small_model: SmallModel) -> None:
    listed = json.loads(tidegate("list", "--json", "--manifest", small_model.manifest_path).stdout)
    assert listed["presets"] == {"small": ["small"]}
    assert listed["models"]["small"]["tasks"] == {"sentiment": 3, "toxicity": 2, "language": 4}
    shown = tidegate("show", "small", "--manifest", small_model.manifest_path)
    assert shown.returncode == 0
    assert "toxic (from 0.5)" in shown.stdout
    as_json = json.loads(
        tidegate("show", "small", "--json", "--manifest", small_model.manifest_path).stdout
    )
    assert as_json["heads"]["language"]["labels"] == LABELS["language"]


def test_the_bundled_models_are_listed_as_a_table() -> None:
    """Its preset names tasks of a model; the other preset's models are not there yet."""
    listed = tidegate("list")
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert ["compact", "compact", "sentiment,", "toxicity", "cpu"] in [
        [*row[:2], *row[3:]] for row in rows
    ]
    assert ["hub", "hub-language"] in [row[:2] for row in rows]


def test_the_setting_names_the_manifest(small_model: SmallModel) -> None:
    found = tidegate("list", "--json", TIDEGATE_MODELS__MANIFEST=str(small_model.manifest_path))
    assert json.loads(found.stdout)["manifest"] == str(small_model.manifest_path)


def test_verify_passes_the_right_files_and_fails_a_tampered_one(small_model: SmallModel) -> None:
    options = ("--manifest", small_model.manifest_path)
    assert tidegate("verify", *options).returncode == 0
    with (small_model.folder / "small" / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    failed = tidegate("verify", "small", "--json", *options)
    assert failed.returncode == 1
    result = json.loads(failed.stdout)
    assert result["ok"] is False
    problems = {check["file"]: check["problem"] for check in result["files"]}
    assert problems["model.onnx"].startswith("sha256 is ")
    assert problems["tokenizer.json"] is None


def test_an_unknown_model_is_an_error_with_a_hint(small_model: SmallModel) -> None:
    failed = tidegate("verify", "big", "--manifest", small_model.manifest_path)
    assert failed.returncode == 1
    assert "no model `big`" in failed.stderr
    assert "there is `small`" in failed.stderr


def test_evaluate_measures_quality_parity_and_batches(
    small_model: SmallModel, tmp_path: Path
) -> None:
    data = write_dev_sets(tmp_path / "data")
    options = ("--data", data, "--model", "small", "--fp32", small_model.fp32, "--threads", "1")
    done = tidegate("evaluate", *options, "--json", "--manifest", small_model.manifest_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    sentiment = result["dev"]["sentiment"]
    assert sentiment["all"]["rows"] == 60
    assert set(sentiment["by_source"]) == {"s0", "s1"}
    toxic = result["dev"]["toxicity"]["labels"]
    assert toxic["toxic"]["all"]["rows"] == 60
    # A third of the rows says nothing about `insult` (-1).
    assert toxic["insult"]["all"]["rows"] == 40
    assert toxic["toxic"]["english"]["roc_auc"] is None
    assert sum(rows for _, rows in result["dev"]["language"]["by_language"].values()) == 60
    assert result["rebatching"]["flips"] == {"sentiment": 0, "toxicity": 0, "language": 0}
    assert result["rebatching"]["largest_change"] < 1e-4
    assert result["parity"]["texts"] > 0
    assert result["parity"]["sentiment"] > 0.8
    table = tidegate("evaluate", *options, "--manifest", small_model.manifest_path)
    assert "labels changed by other batch-mates" in table.stdout


def test_evaluate_names_the_dev_set_that_is_missing(
    small_model: SmallModel, tmp_path: Path
) -> None:
    data = write_dev_sets(tmp_path / "data")
    (data / "toxicity.dev.tsv").unlink()
    failed = tidegate(
        "evaluate", "--data", data, "--model", "small", "--manifest", small_model.manifest_path
    )
    assert failed.returncode == 1
    assert "no `toxicity.dev.tsv` or `.tsv.gz`" in failed.stderr


def test_build_goes_on_from_the_last_step_that_is_done(
    small_model: SmallModel, tmp_path: Path
) -> None:
    """The steps before quantising need torch; here they are done already."""
    data = write_dev_sets(tmp_path / "data")
    for task in LABELS:
        for path in data.glob(f"{task}.dev.tsv*"):
            path.with_name(path.name.replace(".dev.", ".train.")).write_bytes(path.read_bytes())
    out = tmp_path / "out"
    for folder in ("base", "fit", "fp32"):
        (out / folder).mkdir(parents=True)
    tokenizer = (small_model.folder / "small" / "tokenizer.json").read_bytes()
    for folder in ("base", "fit"):
        (out / folder / "tokenizer.json").write_bytes(tokenizer)
    (out / "fit" / "labels.json").write_text(json.dumps(LABELS), "utf-8")
    (out / "fp32" / "model.onnx").write_bytes(small_model.fp32.read_bytes())
    bundled = Path(models.__file__).parent / "compact"
    (out / "tiny").mkdir()
    for file in ("language.onnx", "language.npz"):
        (out / "tiny" / file).write_bytes((bundled / file).read_bytes())
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"""
        [model]
        id = "test/tiny"
        licence = "Apache-2.0"
        max_tokens = 32
        devices = ["cpu"]
        [base]
        source = "nowhere/nothing"
        licence = "MIT"
        layers = 2
        vocab_size = 100
        [draw]
        seed = 1
        contrast_per_language = 2
        background_sentences = 3
        background_posts = 4
        [fit]
        max_tokens = 16
        passes = 1
        [fit.labels]
        sentiment = {json.dumps(LABELS["sentiment"])}
        toxicity = {json.dumps(LABELS["toxicity"])}
        [[stage]]
        name = "fit"
        seed = 1
        [quantise]
        seed = 1
        posts_per_task = 20
        [[data]]
        task = "sentiment"
        source = "s0, s1"
        what = "made up"
        licence = "CC0"
        """,
        "utf-8",
    )
    options = ("--data", data, "--out", out, "--recipe", recipe, "--name", "tiny")
    built = tidegate("build", *options, "--version", "7", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["version"] == "7"
    model = load_manifest(out / "manifest.toml").models["tiny"]
    assert model.version == "7"
    # Chosen on dev, no longer the placeholder.
    assert set(model.heads["toxicity"].thresholds) == {"toxic", "insult"}
    assert set(model.heads["toxicity"].thresholds.values()) != {0.5}
    card = (out / "tiny" / "README.md").read_text("utf-8")
    assert "# `tiny` 7" in card
    assert "made up" in card
    # What is measured from outside stands there, and no figure of ours beside it.
    assert "| HateCheck, and its languages | toxicity | ROC-AUC of `identity_attack` |   |" in card
    assert tidegate("verify", "--manifest", out / "manifest.toml").returncode == 0

    graph = (out / "tiny" / "model.onnx").stat().st_mtime_ns
    again = tidegate("build", *options, "--json")
    assert json.loads(again.stdout) == json.loads(built.stdout)
    assert (out / "tiny" / "model.onnx").stat().st_mtime_ns == graph


@pytest.mark.parametrize("text", ["not = [toml", "[model]\nid = 'x'\n"])
def test_a_recipe_that_is_none(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text, "utf-8")
    failed = tidegate("build", "--data", tmp_path, "--out", tmp_path / "out", "--recipe", recipe)
    assert failed.returncode == 1
    assert "recipe" in failed.stderr
    assert not (tmp_path / "out").exists()
