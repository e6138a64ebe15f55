"""Why a label: the words that drive it are found, and their places are right in any script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.explain import MAX_PARTS, explain
from models.null import NullScorer
from models.scorer import OnnxScorer
from models.scores import TaskScore, TextScores


class WordScorer(NullScorer):
    """A scorer whose answer is known: each bad word adds to `toxic`."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = weights
        self.calls: list[int] = []

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        self.calls.append(len(texts))
        answers = []
        for text in texts:
            score = 0.05 + sum(weight for word, weight in self.weights.items() if word in text)
            answers.append(TextScores({"toxicity": TaskScore("toxic", score, {"toxic": score})}))
        return answers


def shares(scorer: Any, text: str) -> dict[str, float]:
    (found,) = explain(scorer, text, {"toxicity": "toxic"})
    return {span.text: span.share for span in found.spans if span.share > 0}


def test_the_words_that_drive_a_label_are_found() -> None:
    scorer = WordScorer({"fool": 0.5, "clown": 0.25})
    found = shares(scorer, "you fool, you clown!")
    assert set(found) == {"fool", "clown"}
    assert found["fool"] > found["clown"] > 0
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def test_of_two_words_that_say_the_same_both_are_named() -> None:
    class Redundant(WordScorer):
        def score(self, texts: Sequence[str]) -> list[TextScores]:
            self.calls.append(len(texts))
            said = [0.95 if any(word in text for word in self.weights) else 0.05 for text in texts]
            return [TextScores({"toxicity": TaskScore("toxic", s, {"toxic": s})}) for s in said]

    found = shares(Redundant({"fool": 0.0, "clown": 0.0}), "you fool and you clown are here")
    assert found == {"fool": 0.5, "clown": 0.5}


def test_one_word_among_many_is_found_in_two_bounded_steps() -> None:
    scorer = WordScorer({"fool": 0.8})
    text = " ".join(["calm"] * 37 + ["fool"] + ["sea"] * 25)
    assert shares(scorer, text) == {"fool": 1.0}
    assert len(scorer.calls) == 2
    assert sum(scorer.calls) <= 2 + 2 * MAX_PARTS * 4


@pytest.mark.parametrize(
    ("text", "word"),
    [("今天你是白痴吗", "痴"), ("คุณเป็นคนโง่", "โ"), ("👍🏽 you 👩‍👩‍👧 fool", "fool")],
)
def test_places_in_any_script(text: str, word: str) -> None:
    (found,) = explain(WordScorer({word: 0.9}), text, {"toxicity": "toxic"})
    span = max(found.spans, key=lambda s: s.share)
    assert word in span.text
    assert text[span.start : span.end] == span.text
    utf16 = text.encode("utf-16-le")
    assert utf16[2 * span.start_utf16 : 2 * span.end_utf16].decode("utf-16-le") == span.text


@settings(deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_explained_and_the_spans_are_apart(text: str) -> None:
    (found,) = explain(WordScorer({"a": 0.2}), text, {"toxicity": "toxic"})
    ends = [0, *(span.end for span in found.spans)]
    assert all(span.start >= end for span, end in zip(found.spans, ends, strict=False))
    for span in found.spans:
        assert span.text == text[span.start : span.end]
        assert 0 <= span.share <= 1
        assert 0 <= span.start_utf16 <= span.end_utf16


def test_the_bundled_model_is_explained(bundled_scorer: OnnxScorer) -> None:
    found = {e.task: e for e in explain(bundled_scorer, "We met at noon and you are an idiot.")}
    assert set(found) == {"sentiment", "toxicity"}
    toxic = found["toxicity"]
    assert toxic.label == "toxic"
    assert max(toxic.spans, key=lambda span: span.share).text == "idiot"
    assert toxic.score > max(toxic.spans, key=lambda span: span.effect).without


def test_a_language_may_be_asked_for(bundled_scorer: OnnxScorer) -> None:
    (found,) = explain(bundled_scorer, "Das Konzert gestern war großartig", {"language": None})
    assert found.label == "de"
    with pytest.raises(KeyError):
        explain(bundled_scorer, "hello", {"weather": None})
