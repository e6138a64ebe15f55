"""How well a scorer tells attacks on groups from what only looks like them.

The figures are ranks, so they need no threshold: 0.5 is chance, 1 is every attack above every
text that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from models.errors import ModelBuildError
from models.functional.pairs import FunctionalPair
from models.metrics import roc_auc
from models.scores import Scorer

LABEL: Final = "identity_attack"
_TASK: Final = "toxicity"
_CHUNK: Final = 256


class SetFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the pairs.

    `roc_auc` compares every attack with every other text of these pairs, `ordered` each attack
    with its own partner: the share where the attack scores higher, a tie counting half.
    """

    pairs: int
    roc_auc: float
    ordered: float


class FunctionalFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures by language and by function; the means weigh each language alike."""

    model: str
    version: str
    pairs: int
    mean_roc_auc: float
    mean_ordered: float
    languages: dict[str, SetFigures]
    functions: dict[str, SetFigures]
    functions_by_language: dict[str, dict[str, SetFigures]]


def _figures(attacks: Sequence[float], others: Sequence[float]) -> SetFigures:
    first, second = np.array(attacks), np.array(others)
    truth = np.repeat([1, 0], len(first))
    auc = roc_auc(truth, np.concatenate([first, second]))
    assert auc is not None, "both classes are there by construction"
    ordered = np.mean((first > second) + 0.5 * (first == second))
    return SetFigures(pairs=len(first), roc_auc=round(auc, 4), ordered=round(float(ordered), 4))


def _scores(scorer: Scorer, texts: Sequence[str], done: Callable[[int], None]) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(texts), _CHUNK):
        part = scorer.score(texts[start : start + _CHUNK])
        for answer in part:
            if LABEL not in answer.tasks[_TASK].scores:
                raise ModelBuildError(
                    f"the model gives no score for `{LABEL}`",
                    hint="the functional set is for toxicity heads that have this label",
                )
            scores.append(answer.tasks[_TASK].scores[LABEL])
        done(len(part))
    return scores


def evaluate_functional(
    scorer: Scorer, pairs: Sequence[FunctionalPair], done: Callable[[int], None] | None = None
) -> FunctionalFigures:
    """Score both texts of every pair and compare.

    Args:
        scorer: with a toxicity head that has the label `identity_attack`.
        pairs: see `functional_pairs`.
        done: told how many texts were scored since it was last told.

    Raises:
        ModelBuildError: no pairs, no toxicity head, or no such label.
    """
    if not pairs:
        raise ModelBuildError("there are no functional pairs in these languages")
    if _TASK not in scorer.models:
        raise ModelBuildError(f"no model of the preset answers `{_TASK}`")
    tell = done if done is not None else lambda _: None
    attacks = _scores(scorer, [pair.attack for pair in pairs], tell)
    others = _scores(scorer, [pair.other for pair in pairs], tell)

    def part(language: str | None, function: str | None) -> SetFigures:
        chosen = [
            i
            for i, pair in enumerate(pairs)
            if language in (None, pair.file) and function in (None, pair.function)
        ]
        return _figures([attacks[i] for i in chosen], [others[i] for i in chosen])

    files = list(dict.fromkeys(pair.file for pair in pairs))
    functions = list(dict.fromkeys(pair.function for pair in pairs))
    languages = {file: part(file, None) for file in files}
    version = scorer.models[_TASK]
    return FunctionalFigures(
        model=version.id,
        version=version.version,
        pairs=len(pairs),
        mean_roc_auc=round(float(np.mean([each.roc_auc for each in languages.values()])), 4),
        mean_ordered=round(float(np.mean([each.ordered for each in languages.values()])), 4),
        languages=languages,
        functions={function: part(None, function) for function in functions},
        functions_by_language={
            file: {
                function: part(file, function)
                for function in dict.fromkeys(p.function for p in pairs if p.file == file)
            }
            for file in files
        },
    )
