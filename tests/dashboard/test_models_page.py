"""The Models page in Streamlit's test bench, and the figures it takes from files and reviews."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import models_view, page
from dashboard.model_facts import drift_word, overrides
from dashboard.queries.scores import Drift
from dashboard.reader import open_reader
from models.dev_scores import FILE, DevScores, LabelScores, Reliable, label_scores, read_dev_scores
from models.manifest import load_manifest
from tests.dashboard.history_feed import keep_history

APP = str(Path(dashboard.__file__).with_name("app.py"))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    page.settings.clear()
    return path


def open_models() -> AppTest:
    test = AppTest.from_file(APP, default_timeout=60).run()
    test.switch_page("app_pages/models.py").run()
    assert not test.exception, test.exception
    return test


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "text", "warning", "error")
    return "\n".join(str(getattr(e, "value", "")) for kind in kinds for e in test.get(kind))


def test_models_drift_languages_and_overrides(database: Path) -> None:
    made = keep_history(database)
    test = open_models()
    said = words(test)
    manifest = load_manifest()
    for model in manifest.preset("compact").values():
        assert model.id in said
        assert f"version {model.version}" in said
    tables = {next(iter(frame.value.columns)): frame.value for frame in test.dataframe}
    drift = tables["Label"]
    assert "Population stability index" in said
    overridden = tables["The model said"]
    assert overridden["Overridden"].sum() > 0
    assert (overridden["Overridden"] <= overridden["Reviewed"]).all()
    assert len(made) > 100
    assert len(drift) > 3
    held = {tuple(frame.value.columns) for frame in test.dataframe}
    assert any("Toxicity" in columns and "Share" in columns for columns in held)


def test_dev_figures_are_those_of_the_file_beside_the_graph(database: Path) -> None:
    assert not database.exists()
    manifest = load_manifest()
    model = manifest.model("compact")
    held = json.loads((manifest.path.parent / model.folder / "evaluation.json").read_text())["dev"]
    test = open_models()
    toxicity = next(f.value for f in test.dataframe if "ROC-AUC" in f.value.columns)
    for name, label in held["toxicity"]["labels"].items():
        row = toxicity.set_index("Label").loc[name.replace("_", " ")]
        shown = (row["ROC-AUC"], row["Average precision"], row["Precision"], row["Recall"])
        assert shown == pytest.approx(
            (
                label["all"]["roc_auc"],
                label["all"]["average_precision"],
                label["at"]["precision"],
                label["at"]["recall"],
            )
        )
    sentiment = next(f.value for f in test.dataframe if "Macro-recall" in f.value.columns)
    assert list(sentiment["Macro-recall"]) == pytest.approx(
        [part["macro_recall"] for part in held["sentiment"]["by_language"].values()]
    )
    assert f"Measured of version {model.version}" in words(test)


def test_without_a_read_model_the_cards_are_there(database: Path) -> None:
    assert not database.exists()
    assert "tidegate/compact" in words(open_models())


def test_a_manifest_that_cannot_be_read_is_explained(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not database.exists()
    broken = tmp_path / "manifest.toml"
    broken.write_text("presets = 3")
    monkeypatch.setenv("TIDEGATE_MODELS__MANIFEST", str(broken))
    page.settings.clear()
    models_view.forget()
    assert [error.value for error in open_models().error]


def test_an_override_is_a_decision_against_what_the_model_said(database: Path) -> None:
    keep_history(database)
    with open_reader(database) as reader:
        assert reader is not None
        found = overrides(reader.db, 0, page.now_ms() // 1000)
        judged, allowed = reader.db.execute(
            "SELECT count(*), count(*) FILTER (WHERE action = 'allow') FROM decisions WHERE judged = 1"
        ).fetchone()
    # Only abusive posts were reviewed: what people allowed is what they overrode.
    assert sum(row.judged for row in found) == judged > 0
    assert sum(row.overridden for row in found) == allowed > 0


def test_dev_scores_are_of_one_version_only(tmp_path: Path) -> None:
    manifest = load_manifest()
    model = manifest.model("compact")
    held = DevScores(model=model.id, version=model.version, labels={})
    text = json.dumps({"model": held.model, "version": held.version, "labels": {}})
    moved = type(manifest)(path=tmp_path / "m.toml", presets={}, models={})
    (tmp_path / model.folder).mkdir(parents=True)
    (tmp_path / model.folder / FILE).write_text(text)
    assert read_dev_scores(moved, model) == held
    (tmp_path / model.folder / FILE).write_text(text.replace(model.version, "1999.1"))
    assert read_dev_scores(moved, model) is None
    (tmp_path / model.folder / FILE).unlink()
    assert read_dev_scores(moved, model) is None


def test_scores_of_a_label_are_counted_and_compared_with_the_truth() -> None:
    score = np.array([0.05, 0.05, 0.951, 1.0, 0.5])
    found = label_scores(score, np.array([0, 1, 1, 1, -1]))
    assert sum(found.counts) == 5
    assert (found.counts[5], found.counts[50], found.counts[95], found.counts[99]) == (2, 1, 1, 1)
    assert sum(point.rows for point in found.reliability) == 4
    assert found.reliability[0] == Reliable(0.05, 0.5, 2)
    assert isinstance(found, LabelScores)


@pytest.mark.parametrize(("psi", "word"), [(None, "no posts"), (0.02, "✓"), (0.2, "△"), (0.9, "▲")])
def test_a_drift_is_read_by_the_usual_limits(psi: float | None, word: str) -> None:
    assert drift_word(Drift("toxicity.toxic", psi, 10, 10)).startswith(word)
