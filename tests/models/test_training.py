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
from tests.models.bert_graph import write_tokenizer
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

LABELS: dict[Any, list[str]] = {
    "sentiment": ["negative", "neutral", "positive"],
    "toxicity": ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack"],
}
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "max_tokens": 16,
    "batch_rows": 16,
    "sort_chunk_batches": 2,
    "learning_rate": 5e-3,
    "head_learning_rate": 5e-3,
    "word_learning_rate": 0.0,
    "weight_decay": 0.01,
    "warmup_steps": 2,
    "clip_norm": 1.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "classifier_dropout": 0.0,
    "class_balance": 0.5,
    "label_weights": [1.0] * 6,
}
DRAW: dict[str, Any] = {
    "seed": 5,
    "lowercase_share": 0.1,
    "disguised_share": 0.5,
    "contrast_per_language": 4,
    "background_sentences": 20,
    "background_posts": 8,
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
        "toxicity": lambda i: (i % 2, 0, -1, 0, i % 2, (i % 3) - 1),
        "language": lambda i: i % 4,
    }
    labels = {**LABELS, "language": ["de", "en", "fr", "ja"]}
    return {
        task: TaskData(
            task,  # type: ignore[arg-type]
            labels[task],
            [Row(task, text, "made-up", "en", target(i)) for i, text in enumerate(texts)],  # type: ignore[arg-type]
        )
        for task, target in targets.items()
    }


def stage(soft: Any = None, **settings: Any) -> Any:
    """The posts of the training data, twice."""
    from models.training.fit import Stage

    data = training_data()
    rows = [*data["sentiment"].rows, *data["toxicity"].rows] * 2
    return Stage(rows, LABELS, {**SETTINGS, **settings}, soft)


def weights(folder: Path) -> dict[str, Any]:
    from transformers import AutoModel, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if (folder / "labels.json").exists() else AutoModel
    state = kind.from_pretrained(folder).state_dict()
    return {name: value.numpy() for name, value in state.items()}


def fitted(tmp_path: Path, name: str = "fit", **settings: Any) -> Path:
    from models.training.fit import fit

    if not (tmp_path / "base").exists():
        write_base(tmp_path / "base")
    fit(tmp_path / "base", tmp_path / name, stage(**settings), lambda _: None)
    return tmp_path / name


def test_from_base_to_int8(tmp_path: Path) -> None:
    from models.export import export_fp32

    folder = fitted(tmp_path)
    assert json.loads((folder / "labels.json").read_text("utf-8")) == LABELS
    graph = export_fp32(folder, tmp_path / "fp32")
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

    whole = fitted(tmp_path, "whole")
    monkeypatch.setattr(fitting, "_CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(fitting, "_REPORT_EVERY", 4)

    def stop(progress: fitting.Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(tmp_path / "base", parts, stage(), stop)
    assert not (parts / "labels.json").exists()
    steps: list[int] = []
    fitting.fit(tmp_path / "base", parts, stage(), lambda p: steps.append(p.step))
    # It did not begin again: the first report is of the step that was interrupted.
    assert min(steps) == 4
    first, second = weights(whole), weights(parts)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert np.allclose(value, second[name], atol=1e-5), name


def test_word_embeddings_stay_unless_they_have_a_rate(tmp_path: Path) -> None:
    frozen = weights(fitted(tmp_path))
    free = weights(fitted(tmp_path, "free", word_learning_rate=1e-3))
    before = weights(tmp_path / "base")
    words = "embeddings.word_embeddings.weight"
    assert np.array_equal(before[words], frozen[f"bert.{words}"])
    assert not np.allclose(before[words], free[f"bert.{words}"], atol=1e-4)
    query = "encoder.layer.0.attention.self.query.weight"
    assert not np.allclose(before[query], frozen[f"bert.{query}"], atol=1e-4)


def test_a_later_stage_goes_on_from_an_earlier_one_with_fewer_layers(tmp_path: Path) -> None:
    from models.training.fit import fit

    first = fitted(tmp_path)
    rates = dict.fromkeys(("learning_rate", "head_learning_rate"), 0.0)
    fit(first, tmp_path / "half", stage(layers=1, **rates), lambda _: None)
    before, after = weights(first), weights(tmp_path / "half")
    # With a rate of nothing it is the first layer and the head of what was there.
    assert np.array_equal(before["classifier.weight"], after["classifier.weight"])
    assert {name for name in before if ".layer.1." in name}.isdisjoint(after)
    assert {name for name in before if ".layer.1." not in name} == set(after)
    assert all(np.array_equal(before[name], value) for name, value in after.items())


def test_a_run_of_few_steps_ends_there(tmp_path: Path) -> None:
    from models.training.fit import fit

    write_base(tmp_path / "base")
    seen: list[tuple[int, int]] = []
    fit(
        tmp_path / "base",
        tmp_path / "fit",
        stage(steps=3),
        lambda p: seen.append((p.step, p.steps)),
    )
    assert seen == [(3, 3)]


def test_a_loss_that_is_not_a_number_is_said(tmp_path: Path) -> None:
    from models.training.fit import fit

    write_base(tmp_path / "base")
    with pytest.raises(ModelBuildError, match="the loss is not a number at step"):
        fit(tmp_path / "base", tmp_path / "fit", stage(learning_rate=1e30), lambda _: None)
    assert not (tmp_path / "fit" / "labels.json").exists()


def test_a_student_learns_what_its_teachers_say_and_no_label(tmp_path: Path) -> None:
    from models.training.teach import mean_logits

    teachers = [fitted(tmp_path, f"t{seed}", seed=seed) for seed in (1, 2)]
    rows = stage().rows
    told: list[float] = []

    def asked(names: list[Path], kept: str) -> Any:
        return mean_logits(names, rows, 16, tmp_path / kept, lambda share, _: told.append(share))

    soft = asked(teachers, "both.npy")
    assert soft.shape == (len(rows), 9)
    apart = [asked([each], f"{i}.npy").astype(np.float32) for i, each in enumerate(teachers)]
    assert np.allclose(soft.astype(np.float32), (apart[0] + apart[1]) / 2, atol=1e-2)
    assert 0 <= min(told) <= max(told) <= 1
    # Asked again it reads the file, and no teacher.
    assert np.array_equal(asked([tmp_path / "gone"], "both.npy"), soft)

    def apart_from(name: str, **settings: Any) -> float:
        folder = fitted(tmp_path, name, soft=soft, seed=9, **settings)
        said = mean_logits([folder], rows, 16, tmp_path / f"{name}.npy", lambda *_: None)
        return float(np.abs(said.astype(np.float32)[:, 3:] - soft.astype(np.float32)[:, 3:]).mean())

    # The more it is taught the nearer it comes; the labels do not enter with a weight of nothing.
    assert apart_from("long", hard_weight=0.0) < 0.7 * apart_from("short", hard_weight=0.0, steps=1)


def test_own_labels_count_as_the_settings_say() -> None:
    import torch

    from models.training.loss import MultiTaskLoss

    rows = [
        Row("toxicity", "a", "posts", "en", (1, 0, -1, 0, 0, 1)),
        Row("toxicity", "b", "contrast", "en", (0,) * 6),
        Row("sentiment", "c", "posts", "en", 2),
        Row("toxicity", "d", "unlabelled", "en", (-1,) * 6),
    ]
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    soft = np.zeros((4, 9), dtype=np.float16)

    def loss(place: int, taught: Any = None, **settings: Any) -> float:
        of = MultiTaskLoss(LABELS, rows, {**SETTINGS, **settings}, taught, torch.device("cpu"))
        return float(of(logits[[place]], np.array([place]))[0])

    alone = [loss(place) for place in range(4)]
    assert alone[3] == 0
    told = [loss(place, soft, hard_weight=0.0) for place in range(4)]
    both = [loss(place, soft, hard_weight=0.3, contrast_weight=1.0) for place in range(4)]
    assert both == pytest.approx([t + w * a for t, a, w in zip(told, alone, (0.3, 1.0, 0.3, 0.3), strict=True)])  # fmt: skip
    # A label nobody knows is no part of it, whatever the model says.
    before = logits[0, 5].item()
    logits[0, 5] = 99.0
    assert loss(0) == pytest.approx(alone[0])
    logits[0, 5] = before


def test_a_pass_is_posts_contrasts_and_ordinary_text() -> None:
    from models.training.draw import draw_pass

    data = training_data()
    data["sentiment"].rows.append(Row("sentiment", "achha", "made-up", "hi", 2))
    rows = draw_pass(data, {**DRAW, "leave_out": ["hi"], "unlabelled_sentences": 6}, 1)
    of = Counter(row.source for row in rows)
    assert of["background"] == 28
    assert of["unlabelled"] == 6
    assert {row.target for row in rows if row.source == "background"} == {(0,) * 6}
    assert {row.target for row in rows if row.source == "unlabelled"} == {(-1,) * 6}
    contrast = [row for row in rows if row.source == "contrast"]
    assert len({row.lang for row in contrast}) >= 10
    assert {row.target[5] for row in contrast if isinstance(row.target, tuple)} >= {0, 1}
    assert {row.lang for row in rows if row.task == "sentiment"} == {"en"}
    assert of["made-up"] == 96

    # The same number is the same pass; another draws, and spells, anew.
    assert draw_pass(data, {**DRAW, "leave_out": ["hi"], "unlabelled_sentences": 6}, 1) == rows
    capped = {**DRAW, "caps": {"made-up": 5}, "shares": {"made-up": 0.5}, "contrast": {"en": 12}}
    again = draw_pass(data, capped, 2)
    assert Counter(row.task for row in again if row.source == "made-up") == {
        "toxicity": 5,
        "sentiment": 24,
    }
    more = Counter(row.lang for row in again if row.source == "contrast")
    assert more["en"] >= 12 > more["de"] >= 4
    texts = [{row.text for row in drawn if row.source == "contrast"} for drawn in (rows, again)]
    assert len(texts[0] & texts[1]) < len(texts[0]) / 2


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    from models.export import export_fp32

    with pytest.raises(ModelBuildError, match=r"no `config\.json`"):
        export_fp32(tmp_path, tmp_path / "out")
