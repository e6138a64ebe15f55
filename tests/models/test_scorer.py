"""Scoring: the same text gets the same score in any company; what is wrong with a model is said."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.devices import choose_device
from models.errors import ManifestError, ModelFileError, ModelRuntimeError
from models.manifest import sha256_of
from models.manifest_writing import manifest_toml
from models.null import NullScorer
from models.scorer import OnnxScorer, load_scorer
from models.scores import Scorer, TextScores
from tests.models.conftest import SmallModel, sentences

#: Written for this test: several languages and kinds of posts.
POSTS = [
    "what a lovely morning by the sea",
    "the ferry is late again and nobody tells us anything",
    "you are a complete fool and everyone knows it",
    "Das Konzert gestern war großartig!",
    "Ich habe heute wirklich keine Lust mehr",
    "Le train est encore en retard, quelle honte",
    "Qué día tan bonito, gracias a todos",
    "O jogo de ontem foi horrível",
    "今日はとても寒いですね",
    "今天的天气真好",
    "Сегодня прекрасная погода",
    "الطقس جميل اليوم",
    "ok",
    "",
    "lol 😂😂😂",
    "http://example.org/a/b?c=d #news @someone",
    "shut up you stupid clown, nobody asked",
    "a" * 5000,
    "word " * 400,
    "mixed English und Deutsch dans une phrase",
]


def numbers(scores: TextScores) -> list[float]:
    return [value for task in scores.tasks.values() for value in task.scores.values()]


def assert_same(first: TextScores, second: TextScores) -> None:
    assert {t: s.label for t, s in first.tasks.items()} == {
        t: s.label for t, s in second.tasks.items()
    }
    assert numbers(first) == pytest.approx(numbers(second), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_bundled_model_scores_a_post_the_same_in_any_company(
    bundled_scorer: OnnxScorer, seed: int
) -> None:
    alone = [bundled_scorer.score([text])[0] for text in POSTS]
    company = [text for text in POSTS for _ in range(7)]
    random.Random(seed).shuffle(company)
    for text, scores in zip(company, bundled_scorer.score(company), strict=True):
        assert_same(scores, alone[POSTS.index(text)])


def test_the_bundled_model_does_not_care_how_batches_are_cut(bundled_scorer: OnnxScorer) -> None:
    from models.manifest import load_manifest

    small = OnnxScorer(load_manifest(), "compact", device="cpu", batch_tokens=64)
    large = OnnxScorer(load_manifest(), "compact", device="cpu", batch_tokens=20_000)
    expected = bundled_scorer.score(POSTS)
    for scorer in (small, large):
        for first, second in zip(scorer.score(POSTS), expected, strict=True):
            assert_same(first, second)


def test_the_bundled_model_knows_the_obvious(bundled_scorer: OnnxScorer) -> None:
    pleased, insulted, german = bundled_scorer.score(
        [
            "I love this so much, what a wonderful day!",
            "you are a stupid idiot, shut up",
            "Heute gehen wir alle zusammen in den Garten und trinken Kaffee.",
        ]
    )
    assert pleased.tasks["sentiment"].label == "positive"
    assert pleased.tasks["toxicity"].label == "none"
    assert insulted.tasks["sentiment"].label == "negative"
    assert insulted.tasks["toxicity"].label != "none"
    assert german.tasks["language"].label == "de"


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text(max_size=120), max_size=25), st.integers(0, 5), st.integers(16, 400))
def test_order_and_budget_change_nothing(
    built_small_model: SmallModel, texts: list[str], seed: int, budget: int
) -> None:
    scorer = built_small_model.scorer()
    expected = scorer.score(texts)
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    other = built_small_model.scorer(batch_tokens=budget).score([texts[i] for i in order])
    for i, scores in zip(order, other, strict=True):
        assert_same(scores, expected[i])


def test_no_texts(built_small_model: SmallModel) -> None:
    scorer = built_small_model.scorer()
    assert scorer.score([]) == []
    prepared = scorer.prepare([])
    assert scorer.infer(prepared).shape == (0, 9)


@pytest.mark.parametrize(
    ("text", "truncated", "cleaned"),
    [
        ("the sea is calm", False, False),
        ("the sea " * 40, True, False),
        ("x" * 1_000_000, True, False),
        ("the\0sea", False, True),
        ("the \ud800 sea", False, True),
        ("", False, False),
        ("<s> a </s>", False, False),
    ],
    ids=["plain", "long", "a megabyte", "nul", "surrogate", "empty", "special tokens"],
)
def test_what_was_done_to_a_text_is_said(
    built_small_model: SmallModel, text: str, truncated: bool, cleaned: bool
) -> None:
    scores = built_small_model.scorer().score([text])[0]
    assert (scores.truncated, scores.cleaned) == (truncated, cleaned)


def test_special_tokens_in_a_text_are_letters(built_small_model: SmallModel) -> None:
    prepared = built_small_model.scorer().prepare(["<pad> a </s>"])
    ids = prepared.batches[0][0].input_ids[0].tolist()
    assert 1 not in ids
    assert ids.count(2) == 1


def test_a_text_at_the_limit_is_not_truncated(built_small_model: SmallModel) -> None:
    # Four windows of 16 tokens, two of them `<s>` and `</s>`, two shared with the one before.
    scorer = built_small_model.scorer()
    fits, over = " ".join(["sea"] * 50), " ".join(["sea"] * 51)
    assert [s.truncated for s in scorer.score([fits, over])] == [False, True]


def test_models_and_versions_per_task(built_small_model: SmallModel) -> None:
    models = built_small_model.scorer().models
    assert {task: (m.id, m.version) for task, m in models.items()} == dict.fromkeys(
        ("sentiment", "toxicity", "language"), ("test/small", "1")
    )


def test_stages_may_overlap_in_threads(built_small_model: SmallModel) -> None:
    scorer = built_small_model.scorer()
    pieces = [sentences(40, seed) for seed in range(6)]
    expected = [scorer.score(piece) for piece in pieces]
    found: dict[int, list[TextScores]] = {}
    gate = threading.Barrier(len(pieces))

    def work(number: int) -> None:
        gate.wait(timeout=30)
        prepared = scorer.prepare(pieces[number])
        found[number] = scorer.finish(prepared, scorer.infer(prepared))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(pieces))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for number, piece in enumerate(expected):
        for first, second in zip(found[number], piece, strict=True):
            assert_same(first, second)


def rewrite(model: SmallModel, **changes: object) -> None:
    """Change fields of the model's manifest entry, keeping its hashes right."""
    manifest = model.manifest
    entry = msgspec.structs.replace(manifest.models["small"], **changes)
    files = {name: sha256_of(manifest.file(entry, name)) for name in entry.files}
    entry = msgspec.structs.replace(entry, files=files)
    model.manifest_path.write_text(manifest_toml(manifest.presets, {"small": entry}), "utf-8")


def test_labels_in_another_order_than_the_graphs(small_model: SmallModel) -> None:
    heads = dict(small_model.manifest.models["small"].heads)
    heads["sentiment"] = msgspec.structs.replace(
        heads["sentiment"], labels=["positive", "neutral", "negative"]
    )
    rewrite(small_model, heads=heads)
    with pytest.raises(ManifestError, match="the labels do not match") as caught:
        small_model.scorer()
    assert "the manifest says `positive` where the graph says `negative`" in str(caught.value)


def test_heads_that_are_not_all_of_the_graph(small_model: SmallModel) -> None:
    heads = dict(small_model.manifest.models["small"].heads)
    del heads["language"]
    rewrite(small_model, heads=heads)
    with pytest.raises(ManifestError, match="describe 5 logits, the graph gives 9"):
        small_model.scorer()


def test_a_graph_onnxruntime_cannot_read(small_model: SmallModel) -> None:
    (small_model.folder / "small" / "model.onnx").write_bytes(b"no graph")
    rewrite(small_model)
    with pytest.raises(ModelRuntimeError, match="cannot load the graph") as caught:
        small_model.scorer()
    assert caught.value.hint is not None


def test_a_graph_with_inputs_no_tokenizer_gives(small_model: SmallModel) -> None:
    path = small_model.folder / "small" / "model.onnx"
    model = onnx.load(path)
    model.graph.input[1].name = "pixel_values"
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[i] = "pixel_values"
    onnx.save(model, path)
    rewrite(small_model)
    with pytest.raises(ModelRuntimeError, match="wants the input `pixel_values`"):
        small_model.scorer()


def test_a_tokenizer_that_is_none(small_model: SmallModel) -> None:
    (small_model.folder / "small" / "tokenizer.json").write_text("{}", "utf-8")
    rewrite(small_model)
    with pytest.raises(ModelFileError, match="cannot read the tokenizer"):
        small_model.scorer()


@pytest.mark.parametrize(
    ("asked", "runs_on", "available", "expected"),
    [
        ("auto", ["cuda", "cpu"], ["CPUExecutionProvider"], ("cpu", 0)),
        ("auto", ["cuda", "cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"], ("cuda", 0)),
        ("auto", ["cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"], ("cpu", 0)),
        ("cuda:3", ["cuda"], ["CUDAExecutionProvider"], ("cuda", 3)),
        ("cpu", ["cpu"], ["CPUExecutionProvider"], ("cpu", 0)),
    ],
)
def test_where_a_graph_runs(
    asked: str, runs_on: list[str], available: list[str], expected: tuple[str, int]
) -> None:
    assert choose_device(asked, runs_on, available) == expected


@pytest.mark.parametrize(
    ("asked", "runs_on", "message"),
    [
        ("cuda", ["cuda", "cpu"], "`cuda` was asked for and this onnxruntime has no CUDAExecution"),
        ("cuda:1", ["cpu"], "the model is made for `cpu`, not for `cuda`"),
        ("tpu", ["cpu"], "no device `tpu`"),
        ("cuda:x", ["cuda"], "no device `cuda:x`"),
    ],
)
def test_a_device_that_cannot_be_had(asked: str, runs_on: list[str], message: str) -> None:
    with pytest.raises(ModelRuntimeError, match=message) as caught:
        choose_device(asked, runs_on, ["CPUExecutionProvider"])
    assert caught.value.hint is not None


def test_load_scorer(small_model: SmallModel) -> None:
    scorer = load_scorer(small_model.manifest_path, "small", threads=1)
    assert isinstance(scorer, OnnxScorer)
    assert scorer.device == "cpu"
    with pytest.raises(ManifestError, match="no preset `compact`"):
        load_scorer(small_model.manifest_path)


def test_the_null_scorer_answers_like_a_scorer(tmp_path: Path) -> None:
    scorer: Scorer = load_scorer(tmp_path / "not read", "null")
    assert isinstance(scorer, NullScorer)
    texts = [*POSTS, "\ud800", "\0"]
    scores = scorer.score(texts)
    assert [scorer.score([text])[0] for text in reversed(texts)] == scores[::-1]
    assert len({s.tasks["sentiment"].label for s in scores}) == 3
    for answer in scores:
        assert set(answer.tasks) == set(scorer.models)
        assert sum(answer.tasks["sentiment"].scores.values()) == pytest.approx(1)
        assert sum(answer.tasks["language"].scores.values()) == pytest.approx(1)
        toxicity = answer.tasks["toxicity"]
        assert (toxicity.label == "none") == (max(toxicity.scores.values()) < 0.5)
    assert scorer.infer(scorer.prepare(texts)).shape == (len(texts), 0)
    assert np.size(scorer.infer(scorer.prepare([]))) == 0
