"""A scorer that costs almost nothing: for benchmarks of the stream and for tests of everything else.

Its answers are made up, but a text's answer is always the same and depends on the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.scores import ModelVersion, Prepared, TaskScore, TextScores

#: Name of the preset that `load_scorer` answers with a `NullScorer`, whatever the manifest says.
NULL_PRESET: Final = "null"
_VERSION = ModelVersion("tidegate/null", "1")
_LANGUAGES = ("en", "de", "es", "ar")
_SENTIMENTS = ("negative", "neutral", "positive")
_TOXICITIES = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack")


def _answer(number: int) -> TextScores:
    sentiment = number % 3
    toxic = 0.9 if number % 8 == 0 else 0.02
    language = _LANGUAGES[number % 4]
    second, third = (
        (x for x in ("en", "de", "es") if x != language) if number % 4 < 3 else ("en", "de")
    )
    return TextScores(
        {
            "sentiment": TaskScore(
                _SENTIMENTS[sentiment],
                0.8,
                {name: 0.8 if i == sentiment else 0.1 for i, name in enumerate(_SENTIMENTS)},
            ),
            "toxicity": TaskScore(
                "toxic" if toxic > 0.5 else "none",
                toxic,
                {name: toxic if name == "toxic" else 0.01 for name in _TOXICITIES},
            ),
            "language": TaskScore(language, 0.9, {language: 0.9, second: 0.05, third: 0.05}),
        }
    )


class NullScorer:
    """Answers from 24 prepared ones, by the length and first character of the text."""

    lanes: Final = 1
    _POOL: Final = [_answer(number) for number in range(24)]

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        """Task to the model that answers it."""
        return dict.fromkeys(("sentiment", "toxicity", "language"), _VERSION)

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Picks the answers already: there is nothing to tokenise."""
        picks = [(len(text) + ord(text[0])) % 24 if text else 0 for text in texts]
        return Prepared(len(picks), [picks])

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        """No logits at all, in the right number of rows."""
        return np.zeros((prepared.count, 0), dtype=np.float32)

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        """The prepared answers, in the order of the texts."""
        assert len(logits) == prepared.count
        pool = self._POOL
        return [pool[pick] for picks in prepared.batches for pick in picks]

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        """The three stages one after the other."""
        prepared = self.prepare(texts)
        return self.finish(prepared, self.infer(prepared))
