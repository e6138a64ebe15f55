"""Measuring a task on a file: the figures are scikit-learn's, and a wrong file is explained."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, recall_score, roc_auc_score

from models.assess import Assessed, assess
from models.errors import ModelBuildError
from models.identity import identity_figures, mentions
from models.labelled import find_labels, read_labelled
from models.plots import precision_recall, reliability, write_plots
from models.task_card import task_card
from tests.models.bert_graph import LABELS
from tests.models.conftest import SmallModel, sentences

MOODS = LABELS["sentiment"]


def write_moods(path: Path, rows: int = 90) -> Path:
    lines = ["source\tlang\tlabel\ttext"]
    for i, text in enumerate(sentences(rows, seed=8)):
        lines.append(f"s{i % 2}\t{('de', 'en', 'fr')[i % 3]}\t{MOODS[i % 3]}\t{text}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_toxicity(path: Path, rows: int = 60) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        for i, text in enumerate(sentences(rows, seed=9)):
            labels = {
                "toxicity": [
                    label for j, label in enumerate(LABELS["toxicity"]) if i % (j + 2) == 0
                ]
            }
            stream.write(
                json.dumps({"text": f"{text} women", "lang": "en", "labels": labels}) + "\n"
            )
    return path


def measured(
    model: SmallModel, task: str, path: Path, slices: Sequence[str] = ("lang",)
) -> Assessed:
    return assess(model.manifest, "small", task, path, slices=slices, threads=1, device="cpu")


def test_one_answer_is_measured_as_scikit_learn_does(
    built_small_model: SmallModel, tmp_path: Path
) -> None:
    found = measured(
        built_small_model, "sentiment", write_moods(tmp_path / "m.tsv"), ("lang", "source")
    )
    figures, truth = found.figures, found.truth
    answer = found.probabilities.argmax(axis=1)
    assert figures.rows == 90
    assert figures.all.macro_recall == pytest.approx(recall_score(truth, answer, average="macro"))
    assert figures.all.macro_f1 == pytest.approx(f1_score(truth, answer, average="macro"))
    assert figures.confusion == confusion_matrix(truth, answer).tolist()
    assert figures.confusion_labels == MOODS
    for i, label in enumerate(MOODS):
        expected = roc_auc_score(truth == i, found.probabilities[:, i])
        assert figures.labels[label].detection.roc_auc == pytest.approx(expected)
    assert {name: set(parts) for name, parts in figures.slices.items()} == {
        "lang": {"de", "en", "fr"}, "source": {"s0", "s1"},
    }  # fmt: skip
    assert sum(part.rows for part in figures.slices["lang"].values()) == 90
    assert 0 <= figures.ece <= 1
    assert figures.posts_per_s > 0


def test_several_labels_at_once(built_small_model: SmallModel, tmp_path: Path) -> None:
    found = measured(built_small_model, "toxicity", write_toxicity(tmp_path / "t.jsonl.gz"))
    figures = found.figures
    limits = [0.5] * len(LABELS["toxicity"])
    said = (found.probabilities >= limits).astype(int)
    assert figures.all.macro_f1 == pytest.approx(
        f1_score(found.truth, said, average="macro", zero_division=0)
    )
    assert figures.all.accuracy == pytest.approx((said == found.truth).mean())
    assert sum(map(sum, figures.confusion)) == 60
    assert figures.confusion_labels[-1] == "none"
    (toxic,) = figures.identity
    assert toxic.groups["women"].rows == 60
    assert toxic.background_rows == 0
    card = task_card(figures)
    assert "Held-back test sets" in card
    assert "| women | 60 |" in card


@pytest.mark.models
def test_plots_are_drawn(built_small_model: SmallModel, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'tidegate[models]'")
    found = measured(built_small_model, "sentiment", write_moods(tmp_path / "m.tsv"))
    files = write_plots(found, tmp_path / "plots")
    assert {file.name for file in files} == {
        "sentiment-reliability.png", "sentiment-confusion.png", "sentiment-precision-recall.png",
    }  # fmt: skip
    for file in files:
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert int.from_bytes(data[16:20]) >= 500


def test_points_of_the_plots() -> None:
    truth, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.8, 0.1])
    assert precision_recall(truth, score) == [(0.5, 1.0), (1.0, 2 / 3), (1.0, 0.5)]
    points = reliability(truth, score)
    assert [point[1:] for point in points] == [(0.0, 1), (0.5, 2), (1.0, 1)]
    assert [point[0] for point in points] == pytest.approx([0.1, 0.8, 0.9])


def test_a_group_that_is_taken_for_abuse_has_a_low_bpsn() -> None:
    texts = ["the women came"] * 20 + ["you fool"] * 20 + ["calm sea"] * 20
    truth = np.array([0] * 20 + [1] * 20 + [0] * 20)
    score = np.array([0.95] * 20 + [0.9] * 20 + [0.1] * 20)
    figures = identity_figures("toxic", texts, truth, score, 0.5)
    women = figures.groups["women"]
    assert women.false_positive_rate == 1.0
    assert figures.background_false_positive_rate == 0.0
    assert women.bpsn_auc == 0.0
    assert women.bnsp_auc is None


def test_groups_are_words_not_parts_of_words() -> None:
    found = mentions(["Mango, Germany and Islamabad", "a Muslim man", "女性が来た"])
    assert {group for group, here in found.items() if here[0]} == set()
    assert found["muslims"].tolist() == [False, True, False]
    assert found["women"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": "happy"}\n', "`happy` is not a label of the task `sentiment`"),
        ('{"label": "positive"}\n', "a row without `text`"),
        ('{"text": "a"}\n', "no row has a truth for the task `sentiment`"),
        ("nonsense\n", "not JSON"),
        ('["a"]\n', "not a JSON object"),
        ('{"text": "a", "labels": {"sentiment": ["negative", "positive"]}}\n', "2 labels where"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(ModelBuildError, match=message) as caught:
        read_labelled(path, "sentiment", MOODS, several=False)
    assert str(path) in str(caught.value)


def test_a_toxicity_column_that_is_no_truth(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("toxic\tinsult\ttext\n1\t-1\tyou fool\n2\t0\tcalm\n", "utf-8")
    with pytest.raises(ModelBuildError, match=r"`toxic` is `2`, not 1, 0 or -1") as caught:
        read_labelled(path, "toxicity", LABELS["toxicity"], several=True)
    assert str(caught.value).startswith(f"{path}:3")


def test_labels_are_found_in_every_form(tmp_path: Path) -> None:
    columns = tmp_path / "columns.tsv"
    columns.write_text("toxic\tinsult\tlang\ttext\n1\t-1\ten\tyou fool\n", "utf-8")
    assert find_labels(columns, "toxicity") == (["insult", "toxic"], True)
    reviews = tmp_path / "reviews.jsonl"
    reviews.write_text(
        '{"text": "a", "labels": {"spam": ["ad"]}}\n{"text": "b", "labels": {"spam": []}}\n'
    )
    assert find_labels(reviews, "spam") == (["ad"], True)
    assert find_labels(write_moods(tmp_path / "m.tsv"), "sentiment") == (sorted(MOODS), False)


def test_a_task_that_the_model_does_not_have(built_small_model: SmallModel, tmp_path: Path) -> None:
    with pytest.raises(ModelBuildError, match="`small` has no task `weather`"):
        measured(built_small_model, "weather", write_moods(tmp_path / "m.tsv"))
