"""Base, fit, export and quantise with torch, on a model small enough for a test."""

from __future__ import annotations

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.batch import pad_batches
from models.errors import ModelBuildError
from models.quantise import quantise
from models.session import GraphSession
from models.training.data import Row, TaskData
from tests.models.bert_graph import LABELS, write_tokenizer
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
]

RECIPE: dict[str, Any] = {
    "fit": {
        "seed": 3,
        "max_tokens": 16,
        "batch_rows": 16,
        "sort_chunk_batches": 2,
        "learning_rate": 5e-3,
        "head_learning_rate": 5e-3,
        "weight_decay": 0.01,
        "warmup_steps": 2,
        "clip_norm": 1.0,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "classifier_dropout": 0.0,
        "attention": "eager",
        "freeze_word_embeddings": True,
        "lowercase_share": 0.1,
        "sentiment": {"epochs": 1.5, "weight": 1.0, "class_balance": 0.5},
        "toxicity": {"epochs": 1.0, "weight": 1.0, "label_weights": [1.0, 1.0]},
        "language": {"epochs": 1.0, "weight": 1.0, "cut_share": 0.5},
    }
}


def write_base(folder: Path) -> None:
    """A BERT of two layers with random weights."""
    from transformers import BertConfig, BertModel

    folder.mkdir()
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}), "utf-8"
    )


def training_data() -> dict[Any, TaskData]:
    texts = sentences(48, seed=2)
    targets: dict[str, Any] = {
        "sentiment": lambda i: i % 3,
        "toxicity": lambda i: (i % 2, (i % 3) - 1),
        "language": lambda i: i % 4,
    }
    data: dict[Any, TaskData] = {}
    for task, target in targets.items():
        rows = [
            Row(task, text, "made-up", "en", target(i))  # type: ignore[arg-type]
            for i, text in enumerate(texts)
        ]
        data[task] = TaskData(task, LABELS[task], rows)  # type: ignore[arg-type]
    return data


def weights(folder: Path) -> dict[str, Any]:
    from transformers import AutoModel, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if (folder / "labels.json").exists() else AutoModel
    state = kind.from_pretrained(folder).state_dict()
    return {name: value.numpy() for name, value in state.items()}


def test_from_base_to_int8(tmp_path: Path) -> None:
    from models.export import export_fp32
    from models.training.fit import fit

    write_base(tmp_path / "base")
    fit(tmp_path / "base", tmp_path / "fit", training_data(), RECIPE, lambda _: None)
    assert json.loads((tmp_path / "fit" / "labels.json").read_text("utf-8")) == LABELS
    graph = export_fp32(tmp_path / "fit", tmp_path / "fp32")
    assert [path.name for path in (tmp_path / "fp32").iterdir()] == ["model.onnx"]

    tokenizer = write_tokenizer(tmp_path / "t.json")
    tokenizer.enable_truncation(16)
    batches = pad_batches([e.ids for e in tokenizer.encode_batch_fast(sentences(80))], 256, 1)
    flat = [f"{task}/{label}" for task, labels in LABELS.items() for label in labels]
    quantise(graph, tmp_path / "int8.onnx", flat, batches)
    exact, served = (
        GraphSession(path, device="cpu", runs_on=["cpu"], threads=1)
        for path in (graph, tmp_path / "int8.onnx")
    )
    for batch in batches:
        assert np.abs(exact.run(batch) - served.run(batch)).max() < 0.1


def test_an_interrupted_fit_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import fit as fitting

    write_base(tmp_path / "base")
    data = training_data()
    fitting.fit(tmp_path / "base", tmp_path / "whole", data, RECIPE, lambda _: None)

    monkeypatch.setattr(fitting, "_CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(fitting, "_REPORT_EVERY", 4)

    def stop(progress: fitting.Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.fit(tmp_path / "base", tmp_path / "parts", data, RECIPE, stop)
    assert not (tmp_path / "parts" / "labels.json").exists()
    steps: list[int] = []
    fitting.fit(tmp_path / "base", tmp_path / "parts", data, RECIPE, lambda p: steps.append(p.step))
    # It did not begin again: the first report is of the step that was interrupted.
    assert min(steps) == 4
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert np.allclose(value, parts[name], atol=1e-5), name


def test_word_embeddings_stay_and_the_rest_learns(tmp_path: Path) -> None:
    from models.training.fit import fit

    write_base(tmp_path / "base")
    fit(tmp_path / "base", tmp_path / "fit", training_data(), RECIPE, lambda _: None)
    before, after = weights(tmp_path / "base"), weights(tmp_path / "fit")
    words = "embeddings.word_embeddings.weight"
    assert np.array_equal(before[words], after[f"bert.{words}"])
    query = "encoder.layer.0.attention.self.query.weight"
    assert not np.allclose(before[query], after[f"bert.{query}"], atol=1e-4)


def test_later_stages_go_on_from_the_one_before(tmp_path: Path) -> None:
    from models.training.fit import fit
    from models.training.sharpen import sharpen, sharpened_data

    write_base(tmp_path / "base")
    data = training_data()
    toxicity = data["toxicity"]
    toxicity.labels = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack"]
    toxicity.rows = [
        Row("toxicity", row.text, row.source, row.lang, (i % 2, 0, -1, 0, i % 2, 0))
        for i, row in enumerate(toxicity.rows)
    ]
    heads = {"epochs": 1.0, "weight": 1.0}
    recipe = {**RECIPE, "fit": {**RECIPE["fit"], "toxicity": {**heads, "label_weights": [1.0] * 6}}}
    fit(tmp_path / "base", tmp_path / "fit", data, recipe, lambda _: None)
    recipe["sharpen"] = {
        "learning_rate": 0.0,
        "head_learning_rate": 0.0,
        "disguised_share": 0.5,
        "contrast_per_language": 4,
        "background_sentences": 20,
        "background_posts": 8,
    }
    added = sharpened_data(data, recipe)
    assert list(added) == ["sentiment", "toxicity"]
    calm = [row for row in added["toxicity"].rows if row.source == "background"]
    assert len(calm) == 28
    assert {row.target for row in calm} == {(0,) * 6}
    contrast = [row for row in added["toxicity"].rows if row.source == "contrast"]
    assert len({row.lang for row in contrast}) >= 10
    assert {row.target[5] for row in contrast if isinstance(row.target, tuple)} >= {0, 1}

    sharpen(tmp_path / "fit", tmp_path / "sharp", data, recipe, lambda _: None)
    before, after = weights(tmp_path / "fit"), weights(tmp_path / "sharp")
    # With a rate of nothing the first stage is what comes out, less the head of the language.
    kept = len(LABELS["sentiment"]) + 6
    assert after["classifier.weight"].shape[0] == kept
    assert np.array_equal(before["classifier.weight"][:kept], after["classifier.weight"])
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert np.array_equal(before[query], after[query])

    # A third stage draws its own sentences, of one language more, and goes on from the second.
    recipe["polish"] = {
        **recipe["sharpen"],
        "seed": 99,
        "contrast": {"en": 12},
        "learning_rate": 1e-2,
    }
    again = sharpened_data(data, recipe, "polish")
    first, second = (
        [row for row in drawn["toxicity"].rows if row.source == "contrast"]
        for drawn in (added, again)
    )
    more = Counter(row.lang for row in second)
    assert more["en"] >= 12 > more["de"] >= 4
    assert {row.text for row in second} != {row.text for row in first}
    polished = tmp_path / "polished"
    sharpen(tmp_path / "sharp", polished, data, recipe, lambda _: None, stage="polish")
    assert not np.array_equal(after[query], weights(polished)[query])


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    from models.export import export_fp32

    with pytest.raises(ModelBuildError, match=r"no `config\.json`"):
        export_fp32(tmp_path, tmp_path / "out")
