"""The whole language model, small: trained on made-up languages, written, calibrated, served."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.language.build import (
    GRAPH,
    VOCABULARY,
    describe_language,
    fit_language,
    read_language_recipe,
    write_language,
)
from models.manifest import load_manifest
from models.manifest_writing import manifest_toml
from models.scorer import load_scorer

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        find_spec("torch") is None, reason="needs torch: pip install 'tidegate[models]'"
    ),
]

#: Syllables of three languages that nobody speaks; a fourth is written without spaces.
SYLLABLES = {
    "aa": ["ka", "lo", "mi", "tu", "re"],
    "bb": ["schtr", "onk", "ulf", "grim", "ed"],
    "cc": ["ña", "çu", "ei", "ou", "lh"],
    "zh": list("今天很好我们去山水花"),
}
SMALL: dict[str, Any] = {
    "seed": 1, "min_rows": 5, "posts_per_language": 5, "gibberish": 200, "slots": 4000,
    "min_times": 2, "size": 8, "gibberish_share": 0.05,
}  # fmt: skip
STAGE = {"draws": 20_000, "batch": 256, "learning_rate": 0.03, "warmup": 2, "decay": 0.5}


def sentence(lang: str, rng: random.Random) -> str:
    def word() -> str:
        return "".join(rng.choices(SYLLABLES[lang], k=rng.randint(1, 4)))

    return ("" if lang == "zh" else " ").join(word() for _ in range(rng.randint(3, 9)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language-data")
    rng = random.Random(0)
    for part, rows in (("train", 120), ("dev", 40)):
        lines = ["source\tlang\ttext"]
        lines += [
            f"made-up\t{lang}\t{sentence(lang, rng)}" for lang in SYLLABLES for _ in range(rows)
        ]
        (folder / f"language.{part}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    words = [f"aa\taa\t{10 + i}\t{''.join(rng.choices(SYLLABLES['aa'], k=2))}" for i in range(30)]
    (folder / "language.words.tsv").write_text(
        "\n".join(["lang\tvariant\tcount\tword", *words]) + "\n", "utf-8"
    )
    posts = [f"made-up\tbb\tneutral\t{sentence('bb', rng)}" for _ in range(10)]
    (folder / "sentiment.train.tsv").write_text(
        "\n".join(["source\tlang\tlabel\ttext", *posts]) + "\n", "utf-8"
    )
    return folder


def test_the_recipe_names_everything_that_is_read() -> None:
    recipe = read_language_recipe()
    assert set(SMALL) < set(recipe)
    assert all(set(STAGE) < set(stage) for stage in recipe["stages"])


def test_a_model_is_trained_written_calibrated_and_served(data: Path, tmp_path: Path) -> None:
    recipe = read_language_recipe()
    settings = {**recipe, **SMALL, "stages": [{**recipe["stages"][0], **STAGE}]}
    settings["head"] = {**recipe["head"], "draws": 5000, "hidden": 8, "batch": 250}
    told: list[float] = []
    fit_language(data, tmp_path / "work", settings, lambda _step, share, _what: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0
    write_language(tmp_path / "work", tmp_path / "model")
    model, figures = describe_language(data, tmp_path / "model", settings, "1", 1)
    assert figures.sentences.all.accuracy > 0.97
    assert figures.one_word.accuracy > 0.8
    assert figures.undetermined.gibberish > 0.5
    assert set(model.files) == {GRAPH, VOCABULARY}
    # What is there is not made again.
    fit_language(data, tmp_path / "work", {}, lambda *_: pytest.fail("trained again"))

    manifest = tmp_path / "manifest.toml"
    manifest.write_text(manifest_toml({"only": ["language"]}, {"language": model}), "utf-8")
    assert load_manifest(manifest).models["language"] == model
    answers = load_scorer(manifest, "only").score(
        ["kalomi tumi", "Schtronk ulf!", "今天很好", "12 :-)"]
    )
    assert [a.tasks["language"].label for a in answers] == ["aa", "bb", "zh", "und"]
