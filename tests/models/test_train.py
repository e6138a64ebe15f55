"""From labelled texts to a served model: it learns, goes on after a stop, and replaces no better one."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelBuildError
from models.manifest import bundled_manifest_path, load_manifest
from models.scorer import OnnxScorer
from models.train import Trained, put_in_place, train
from models.training.task_run import Training
from tests.models.architectures import write_classifier
from tests.models.conftest import sentences
from tests.models.test_adopt_command import tidegate

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        find_spec("optimum") is None, reason="needs optimum: pip install 'tidegate[models]'"
    ),
    # torch, transformers and optimum warn of each other.
    pytest.mark.filterwarnings("ignore"),
    # Each process imports torch and transformers anew; a busy machine takes its time for it.
    pytest.mark.timeout(600),
]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products this small only wait for each other on several threads."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write_reviews(path: Path, rows: int = 240, *, true: bool = True) -> Path:
    """As an export of reviews: what mentions the sea is an advertisement, or nobody knows why."""
    lines = []
    for i, text in enumerate(sentences(rows, seed=21)):
        wanted = "sea" in text.split() if true else i % 3 == 0
        lines.append(json.dumps({"text": text, "lang": "en", "labels": {"spam": ["ad"] * wanted}}))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def training(tmp_path: Path, data: Path, out: str = "run", **changes: Any) -> Training:
    base = tmp_path / "base"
    if not base.exists():
        write_classifier(base, "bert", ("a", "b", "c"))
    options: dict[str, Any] = {
        "task": "spam", "data": data, "out": tmp_path / out, "base": str(base), "epochs": 4,
        "batch_rows": 16, "learning_rate": 3e-3, "max_tokens": 24, **changes,
    }  # fmt: skip
    return Training(**options)


def trained(what: Training, **how: Any) -> Trained:
    return train(what, load_manifest(bundled_manifest_path()), "compact", "my-spam", **how)


def test_it_learns_is_served_and_is_not_replaced_by_a_worse_one(tmp_path: Path) -> None:
    good = trained(training(tmp_path, write_reviews(tmp_path / "reviews.jsonl")))
    assert good.score > 0.9
    assert good.in_use is None
    assert good.better
    path = tmp_path / "own" / "manifest.toml"
    assert put_in_place(good, path) == "my-spam"
    manifest = load_manifest(path)
    manifest.verify("my-spam")
    assert manifest.models["my-spam"].heads["spam"].thresholds["ad"] != 0.5
    scorer = OnnxScorer(manifest, "my-spam", device="cpu", threads=1)
    assert set(scorer.models) == {"spam", "sentiment", "toxicity", "language"}
    sea, calm = scorer.score(["the sea is lovely today and calm", "a calm evening over the boats"])
    assert sea.tasks["spam"].score > calm.tasks["spam"].score

    noise = write_reviews(tmp_path / "noise.jsonl", 120, true=False)
    what = training(tmp_path, noise, "again", dev=tmp_path / "reviews.jsonl", epochs=1)
    worse = train(what, manifest, "my-spam", "my-spam")
    assert worse.in_use == "my-spam"
    assert worse.in_use_score is not None
    assert worse.in_use_score > worse.score
    assert not worse.better


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    what = training(tmp_path, write_reviews(tmp_path / "reviews.jsonl", 120), epochs=2)
    seen: list[str] = []

    def stop(_step: str, _share: float, remark: str) -> None:
        seen.append(remark)
        if remark.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(what, report=stop)
    assert (what.out / "checkpoint.pt").is_file()
    rest: list[str] = []
    found = trained(what, report=lambda _step, _share, remark: rest.append(remark))
    assert found.epochs == 2
    assert not any(remark.startswith("epoch 1") for remark in rest)
    assert any(remark.startswith("epoch 2") for remark in rest)
    assert not (what.out / "checkpoint.pt").exists()
    with pytest.raises(
        ModelBuildError, match="the run in this folder is of other rows or settings"
    ):
        trained(training(tmp_path, what.data, epochs=3))


def test_it_ends_when_it_is_not_getting_better(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "noise.jsonl", 120, true=False)
    found = trained(training(tmp_path, data, epochs=40, patience=1, learning_rate=1e-7))
    assert found.epochs < 40


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": "a", "label": "x"}] * 30, "only the label `x` occurs"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], "are too few"),
        ([{"text": "a"}], "no labels of the task `spam`"),
    ],
)
def test_rows_that_cannot_be_learnt_from(
    tmp_path: Path, lines: list[dict[str, str]], message: str
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    with pytest.raises(ModelBuildError, match=message):
        trained(training(tmp_path, data))


def test_the_command_replaces_a_better_one_only_by_force(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.jsonl", 200)
    training(tmp_path, data)  # writes the base

    def run(out: str, rows: Path, *more: object) -> subprocess.CompletedProcess[str]:
        return tidegate(
            tmp_path, "models", "train", "--task", "spam", "--data", rows, "--out", out,
            "--base", "base", "--learning-rate", "0.002", "--max-tokens", "24",
            "--batch-rows", "16", "--json", *more,
        )  # fmt: skip

    first = run("first", data, "--epochs", "4")
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["preset"] == "my-spam"
    noise = write_reviews(tmp_path / "noise.jsonl", 100, true=False)
    second = run("second", noise, "--epochs", "1", "--dev", data)
    assert second.returncode == 3, second.stderr
    assert json.loads(second.stdout)["replaced"] is False
    forced = run("second", noise, "--epochs", "1", "--dev", data, "--force")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(forced.stdout)["replaced"] is True
