"""The functional set stays apart from the training sentences, and its figures are what they say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import ModelBuildError
from models.functional import FunctionalPair, evaluate_functional, functional_pairs
from models.functional.__main__ import main
from models.functional.pairs import SPELLING, functional_languages
from models.null import NullScorer
from models.scores import ModelVersion, Prepared, TaskScore, TextScores
from models.templates import Language, bare, pattern
from models.training.contrast import generate, load_languages
from models.training.contrast.functions import DISARMING_FRAMES

FRAMES = {"endorse", *DISARMING_FRAMES}


@dataclass(frozen=True)
class WordScorer:
    """Scores a text by what a function says of it."""

    attacks: frozenset[str]
    lanes = 1
    hit: float = 0.9
    miss: float = 0.1
    label: str = "identity_attack"

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        return {"toxicity": ModelVersion("tidegate/words", "1")}

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return Prepared(len(texts), [texts])

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        hits = [[self.hit if t in self.attacks else self.miss] for t in prepared.batches[0]]
        return np.array(hits, dtype=np.float32)

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        assert prepared.count == len(logits)
        return [
            TextScores({"toxicity": TaskScore("none", float(x), {self.label: float(x)})})
            for x in logits[:, 0]
        ]

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        prepared = self.prepare(texts)
        return self.finish(prepared, self.infer(prepared))


@cache
def pairs() -> tuple[FunctionalPair, ...]:
    return tuple(functional_pairs())


def templates(language: Language) -> list[tuple[str, str]]:
    return [
        (function, template)
        for function, lines in language.lines.items()
        for line in lines
        for template in (line.template, *line.contrasts)
    ]


def test_there_are_enough_pairs_in_enough_languages() -> None:
    counts = Counter(pair.file for pair in pairs())
    assert len(pairs()) >= 1_000
    assert counts["en"] >= 100
    assert len([n for file, n in counts.items() if file != "en" and n >= 80]) >= 10
    assert any(pair.function == SPELLING for pair in pairs())


def test_pairs_are_complete_sentences_that_differ() -> None:
    for pair in pairs():
        for text in (pair.attack, pair.other):
            assert text.strip() == text
            assert not re.search(r"[{}|\[\]]", text), text
        assert pair.attack != pair.other
    assert len({(pair.attack, pair.other) for pair in pairs()}) == len(pairs())


def test_no_text_is_an_attack_here_and_none_there() -> None:
    attacks = {(pair.file, pair.attack) for pair in pairs()}
    assert attacks.isdisjoint((pair.file, pair.other) for pair in pairs())


def test_every_language_is_one_of_the_training_templates() -> None:
    assert {each.code for each in functional_languages()} <= set(load_languages())


@pytest.mark.parametrize("code", [each.code for each in functional_languages()])
def test_no_template_is_shared_with_the_training_templates(code: str) -> None:
    """Slots, choices, case and punctuation removed."""
    mine = next(each for each in functional_languages() if each.code == code)
    theirs = {bare(template) for _, template in templates(load_languages()[code])}
    assert [t for _, t in templates(mine) if bare(t) in theirs] == []


@pytest.mark.parametrize("code", [each.code for each in functional_languages()])
def test_no_functional_sentence_can_come_out_of_the_training_generator(code: str) -> None:
    """With every filler of both files, and whatever the training frames quote."""
    training = load_languages()[code]
    sentences = {
        text.casefold()
        for pair in pairs()
        if pair.file == code and pair.function != SPELLING
        for text in (pair.attack, pair.other)
    }
    made: list[tuple[str, str]] = []
    for _, template in templates(training):
        words = bare(template).split()
        # A pattern is only worth compiling for sentences that have all its fixed words.
        near = [text for text in sentences if all(word in text for word in words)] if words else []
        maker = pattern(template, training) if near else None
        made.extend((template, text) for text in near if maker and maker.fullmatch(text))
    assert made == []


@pytest.mark.parametrize("code", ["en", "pl", "zh"])
def test_the_pattern_that_holds_them_apart_knows_what_the_generator_makes(code: str) -> None:
    """Were the patterns too narrow, the test above could not fail."""
    training = load_languages()[code]
    makers = [pattern(t, training) for f, t in templates(training) if f not in FRAMES]
    closers = training.fillers["closer"]
    plain = [
        row.text.casefold()
        for row in generate(3, 400, [code])
        if row.function not in FRAMES and not row.text.endswith(tuple(closers))
    ]
    known = sum(any(maker.fullmatch(text) for maker in makers) for text in plain)
    assert known > 0.6 * len(plain), "the rest is misspelt, opened or endorsed"


def test_a_scorer_that_knows_every_attack_gets_everything_right() -> None:
    scorer = WordScorer(frozenset(pair.attack for pair in pairs()))
    figures = evaluate_functional(scorer, pairs())
    assert figures.mean_roc_auc == 1.0
    assert figures.mean_ordered == 1.0
    assert figures.pairs == sum(each.pairs for each in figures.languages.values())
    assert figures.pairs == sum(each.pairs for each in figures.functions.values())


def test_a_scorer_that_is_always_wrong_gets_everything_wrong() -> None:
    scorer = WordScorer(frozenset(pair.attack for pair in pairs()), hit=0.1, miss=0.9)
    assert evaluate_functional(scorer, pairs()).mean_roc_auc == 0.0


def test_a_scorer_that_gives_one_score_is_at_chance() -> None:
    figures = evaluate_functional(WordScorer(frozenset()), pairs())
    assert {each.roc_auc for each in figures.languages.values()} == {0.5}
    assert {each.ordered for each in figures.functions.values()} == {0.5}


def test_the_mean_weighs_languages_alike() -> None:
    knows_english = frozenset(pair.attack for pair in pairs() if pair.file == "en")
    figures = evaluate_functional(WordScorer(knows_english), pairs())
    assert figures.languages["en"].roc_auc == 1.0
    expected = (1.0 + 0.5 * (len(figures.languages) - 1)) / len(figures.languages)
    assert figures.mean_roc_auc == pytest.approx(expected, abs=1e-4)


def test_every_text_is_counted_as_done() -> None:
    seen: list[int] = []
    evaluate_functional(WordScorer(frozenset()), pairs()[:300], seen.append)
    assert sum(seen) == 600


def test_no_pairs_and_no_label_are_said() -> None:
    with pytest.raises(ModelBuildError, match="no functional pairs"):
        evaluate_functional(WordScorer(frozenset()), functional_pairs(["xx"]))
    with pytest.raises(ModelBuildError, match="no score for `identity_attack`"):
        evaluate_functional(WordScorer(frozenset(), label="toxic"), pairs()[:3])


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "null", "--lang", "de", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures["languages"]) == ["de"]
    assert figures["model"] == NullScorer().models["toxicity"].id
    assert 0 <= figures["mean_roc_auc"] <= 1


def test_the_command_prints_a_table_and_the_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "null", "--lang", "fr"]) == 0
    assert "mean over languages" in capsys.readouterr().out
    assert main(["--lang", "fr", "--pairs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(functional_pairs(["fr"]))
    assert set(json.loads(lines[0])) == {"attack", "other", "lang", "function", "file"}


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--preset", "nothing"]) == 1
    assert "error: " in capsys.readouterr().err
