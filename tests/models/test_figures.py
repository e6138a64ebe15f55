"""Dev figures, thresholds and claimed languages on rows whose right answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.describe import with_languages
from models.evaluate import DevFigures
from models.figures import (
    choose_thresholds,
    language_figures,
    sentiment_figures,
    toxicity_figures,
)
from models.manifest import Head
from models.training.data import Row, TaskName
from tests.models.conftest import SmallModel

HEAD = Head(
    activation="sigmoid",
    slice=(0, 2),
    labels=["toxic", "insult"],
    thresholds={"toxic": 0.5, "insult": 0.5},
)


def row(task: TaskName, lang: str, target: int | tuple[int, ...]) -> Row:
    return Row(task, "", "made-up", lang, target)


def sentiment(lang: str, count: int, right: int) -> tuple[list[Row], list[list[float]]]:
    """`count` rows of each class in one language, `right` of each answered rightly."""
    rows, scores = [], []
    for target in range(3):
        for i in range(count):
            answer = target if i < right else (target + 1) % 3
            rows.append(row("sentiment", lang, target))
            scores.append([0.8 if c == answer else 0.1 for c in range(3)])
    return rows, scores


def test_unknown_truths_count_nowhere() -> None:
    rows = [row("toxicity", "en", t) for t in [(1, -1), (0, 1), (-1, 0), (1, 1)]]
    scores = np.array([[0.9, 0.9], [0.2, 0.8], [0.99, 0.1], [0.6, 0.7]], np.float32)
    figures = toxicity_figures(rows, scores, HEAD)
    assert figures.labels["toxic"].all.rows == 3
    assert figures.labels["toxic"].all.positives == 2
    assert figures.labels["insult"].all.rows == 3
    assert figures.labels["insult"].at.f1 == 1.0
    assert figures.by_language["en"].roc_auc == 1.0


def test_thresholds_are_each_labels_own() -> None:
    rows = [row("toxicity", "en", t) for t in [(1, 0), (0, 1), (1, 1), (0, 0), (0, -1)]]
    scores = np.array([[0.3, 0.7], [0.2, 0.9], [0.8, 0.95], [0.1, 0.2], [0.0, 1.0]], np.float32)
    chosen = choose_thresholds(rows, scores, HEAD)
    assert 0.2 < chosen["toxic"] <= 0.3
    assert 0.7 < chosen["insult"] <= 0.9


def test_a_language_is_claimed_with_enough_rows_and_better_than_chance_only(
    built_small_model: SmallModel,
) -> None:
    rows, scores = [], []
    # (language, rows of each class, right ones of each class)
    for lang, count, right in (("en", 50, 40), ("hi", 50, 18), ("it", 20, 20)):
        more_rows, more_scores = sentiment(lang, count, right)
        rows += more_rows
        scores += more_scores
    toxic_rows = [row("toxicity", lang, (i % 2, -1)) for lang in ("de", "ja") for i in range(120)]
    toxic = [[0.9 if i % 2 else 0.1, 0.0] for i in range(120)] + [[0.5, 0.0]] * 120
    language_rows = [row("language", "de", 0)] * 12 + [row("language", "en", 1)] * 3
    dev = DevFigures(
        sentiment=sentiment_figures(rows, np.array(scores, np.float32)),
        toxicity=toxicity_figures(toxic_rows, np.array(toxic, np.float32), HEAD),
        language=language_figures(
            language_rows, np.array([[0.9, 0.1, 0, 0]] * 15, np.float32), ["de", "en", "fr", "it"]
        ),
    )
    heads = with_languages(built_small_model.manifest.models["small"], dev).heads
    assert heads["sentiment"].languages == ["en"]
    assert heads["toxicity"].languages == ["de"]
    assert heads["language"].languages == ["de"]
    assert dev.language is not None
    assert dev.language.all.accuracy == pytest.approx(12 / 15)
    assert [(c.truth, c.answer, c.rows) for c in dev.language.confusions] == [("en", "de", 3)]
