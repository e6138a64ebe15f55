"""What dev rows decide about a model, through its real graph, and that the manifest keeps it."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from models.build import with_language_model
from models.calibration_card import calibration_section
from models.describe import calibrated
from models.evaluate import Bench
from models.manifest import Head, Model, load_manifest
from models.manifest_writing import manifest_toml
from models.training.data import Row, TaskData, TaskName
from tests.models.bert_graph import LABELS
from tests.models.conftest import SmallModel, sentences


def dev_rows() -> dict[TaskName, TaskData]:
    rng = random.Random(5)
    sentiment = [
        Row("sentiment", text, "made-up", "en", rng.randrange(len(LABELS["sentiment"])))
        for text in sentences(200, seed=5)
    ]
    toxicity = [
        Row(
            "toxicity",
            text,
            "made-up",
            "de" if number < 40 else "en",
            tuple(rng.randint(0, 1) for _ in LABELS["toxicity"]),
        )
        for number, text in enumerate(sentences(400, seed=6))
    ]
    return {
        "sentiment": TaskData("sentiment", LABELS["sentiment"], sentiment),
        "toxicity": TaskData("toxicity", LABELS["toxicity"], toxicity),
    }


def test_calibration_and_thresholds_stand_in_the_manifest(
    built_small_model: SmallModel, tmp_path: Path
) -> None:
    bench = Bench(built_small_model.manifest, "small", fp32=None, threads=1)
    model, figures = calibrated(bench, dev_rows(), lambda *_: None)
    toxicity = model.heads["toxicity"]
    assert set(toxicity.curves) == set(LABELS["toxicity"])
    assert model.heads["sentiment"].temperature != 1.0
    assert set(toxicity.by_language) == {"en"}, "40 rows are too few for German"
    assert {at.rows for at in toxicity.measured.values()} == {400}
    assert set(figures) == {"sentiment", *(f"toxicity {label}" for label in LABELS["toxicity"])}
    # Random truths: whatever was said before, the share of positives is all there is to say.
    assert all(found.after < 0.2 for found in figures.values())

    path = tmp_path / "manifest.toml"
    path.write_text(manifest_toml({"small": ["small"]}, {"small": model}), "utf-8")
    assert load_manifest(path).models["small"] == model
    section = calibration_section(model, figures)
    assert "| `toxic` | `en` |" in section
    assert calibration_section(model, {}) == ""


def test_the_encoder_answers_what_the_language_model_does_not(
    built_small_model: SmallModel,
) -> None:
    manifest = built_small_model.manifest
    small = manifest.models["small"]
    language = Model(
        **{
            **msgspec.structs.asdict(small),
            "heads": {"language": Head(activation="softmax", slice=(0, 2), labels=["en", "und"])},
            "reads": "ngrams",
        }
    )
    both = with_language_model(manifest, "small", small, language)
    assert both.presets == {"small": ["small:sentiment,toxicity", "small-language"]}
    served = both.preset("small")
    assert set(served["small"].heads) == {"sentiment", "toxicity"}
    assert set(served["small-language"].heads) == {"language"}
