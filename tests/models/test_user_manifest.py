"""The user's manifest: extends the bundled one, never becomes it, and forgets what is removed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.errors import ManifestError, ModelFileError
from models.manifest import (
    Model,
    Source,
    bundled_manifest_path,
    default_manifest_path,
    load_manifest,
    user_manifest_path,
)
from models.scorer import OnnxScorer
from models.user_manifest import add_model, remove_model, slug, writable_manifest
from tests.models.conftest import SmallModel


def entry(small_model: SmallModel, *tasks: str) -> Model:
    model = small_model.manifest.models["small"]
    heads = {task: model.heads[task] for task in tasks}
    return msgspec.structs.replace(model, heads=heads)


def test_a_model_is_completed_by_the_bundled_one(small_model: SmallModel) -> None:
    path = small_model.folder / "own.toml"
    assert (
        add_model(path, "mine", entry(small_model, "sentiment", "toxicity", "language")) == "mine"
    )
    assert load_manifest(path).presets["mine"] == ["mine"]
    add_model(path, "partly", entry(small_model, "sentiment", "toxicity"))
    manifest = load_manifest(path)
    answered = {t: n for n, m in manifest.preset("partly").items() for t in m.heads}
    assert answered["sentiment"] == answered["toxicity"] == "partly"
    assert answered["language"] != "partly"
    # The bundled presets are there as before, and their files are found.
    assert manifest.presets["compact"] == load_manifest(bundled_manifest_path()).presets["compact"]
    for name in manifest.preset("compact"):
        manifest.verify(name)


def test_a_preset_of_single_tasks_is_served(small_model: SmallModel) -> None:
    path = small_model.folder / "own.toml"
    add_model(path, "mine", small_model.manifest.models["small"])
    text = path.read_text("utf-8")
    path.write_text(
        text.replace("[presets]\n", '[presets]\nboth = ["mine:sentiment", "compact:toxicity"]\n'),
        "utf-8",
    )
    scorer = OnnxScorer(load_manifest(path), "both", device="cpu", threads=1)
    scores = scorer.score(["a lovely morning"])[0]
    assert set(scores.tasks) == {"sentiment", "toxicity"}
    assert scorer.models["sentiment"].id == "test/small"
    assert scorer.models["toxicity"].id == "tidegate/compact"
    path.write_text(path.read_text("utf-8").replace("mine:sentiment", "mine:weather"), "utf-8")
    with pytest.raises(ManifestError, match="preset `both`: `mine` has no task `weather`"):
        load_manifest(path)


def test_removing(small_model: SmallModel) -> None:
    path = small_model.folder / "own.toml"
    add_model(path, "mine", small_model.manifest.models["small"])
    text = path.read_text("utf-8")
    path.write_text(text.replace("[presets]\n", '[presets]\nteam = ["mine"]\n'), "utf-8")
    with pytest.raises(ManifestError, match="preset `team` needs the model `mine`"):
        remove_model(path, "mine")
    path.write_text(text, "utf-8")
    with pytest.raises(ManifestError, match="no model `compact` of your own"):
        remove_model(path, "compact")
    files = remove_model(path, "mine")
    assert not any(file.exists() for file in files)
    assert "mine" not in load_manifest(path).models
    assert "mine" not in load_manifest(path).presets
    assert "compact" in load_manifest(path).presets


def test_the_bundled_manifest_is_not_written_to() -> None:
    with pytest.raises(ManifestError, match="the bundled manifest is not written to"):
        writable_manifest(bundled_manifest_path())
    assert writable_manifest(None) == user_manifest_path()


def test_the_users_manifest_is_found_where_there_is_one(
    small_model: SmallModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_manifest_path() == bundled_manifest_path()
    add_model(user_manifest_path(), "mine", small_model.manifest.models["small"])
    assert default_manifest_path() == user_manifest_path()
    assert {"mine", "compact"} <= set(load_manifest().models)


def test_a_plan_is_not_a_model_yet(small_model: SmallModel) -> None:
    path = small_model.folder / "own.toml"
    plan = msgspec.structs.replace(
        small_model.manifest.models["small"], files={}, source=Source(id="a/b", revision="main")
    )
    add_model(path, "planned", plan)
    manifest = load_manifest(path)
    assert manifest.models["planned"].source == Source(id="a/b", revision="main")
    with pytest.raises(ModelFileError, match="model `planned` is not exported yet") as caught:
        OnnxScorer(manifest, "planned")
    assert "tidegate models export planned" in str(caught.value.hint)


def test_the_hub_preset_is_a_plan_for_every_task() -> None:
    members = load_manifest(bundled_manifest_path()).preset("hub")
    assert {task for model in members.values() for task in model.heads} == {
        "sentiment",
        "toxicity",
        "language",
    }
    assert all(model.source is not None for model in members.values())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("cardiffnlp/Twitter-XLM_Base", "twitter-xlm-base"),
        ("/data/models/mine v2/", "mine-v2"),
        ("///", "model"),
    ],
)
def test_names(source: str, name: str) -> None:
    assert slug(source) == name
