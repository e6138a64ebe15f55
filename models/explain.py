"""Which words drove a label: the post is scored again without each of them, in one batch.

Occlusion (Zeiler and Fergus 2014, on words instead of patches): a word's effect is what the
label's log-odds lose when the word is taken out. Where one of two insults is taken out the other
still carries the label, so a word is also scored alone, and counts with the mean of what it takes
away and what it brings where that is more. Pure but for the scorer; the cost is bounded by
`MAX_PARTS` parts a step, two steps at most, whatever the length of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from models.scores import Scorer, TaskScore, TextScores

#: Parts that are taken out one at a time: the words of a short text, else groups of words, of
#: which the most telling are looked at word by word.
MAX_PARTS: Final = 8
#: Groups that are looked into: the most telling of each answer, then those that come next.
_OPENED: Final = 2
#: Scores are rounded to six decimals, so nothing can be said of odds beyond.
_NEAREST: Final = 1e-6
_WORD: Final = re.compile(r"\S+")
#: Scripts without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han and what goes with them.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f]"
    # marks that stand on the letter before them
    "[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3"
    "\u0f71-\u0f84\u3099\u309a]*"
)
_EDGE: Final = "\"'`.,;:!?…()[]{}<>«»“”„‘’。、！？「」"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the text and what it did for the label.

    `start` and `end` count characters (code points), the other two UTF-16 units, as JavaScript
    does. `effect`: in log-odds of the label, below 0 where the part speaks against it.
    `without`, `alone`: the label's score without the part and of the part alone. `share`: of all
    effects over 0.
    """

    start: int
    end: int
    start_utf16: int
    end_utf16: int
    text: str
    effect: float
    without: float
    alone: float
    share: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task's label has its score; `spans` are in the order of the text."""

    task: str
    label: str
    score: float
    spans: list[Span]


#: Where a word begins and ends; words that are taken out together.
Unit = tuple[int, int]
Part = tuple[Unit, ...]


def explain(
    scorer: Scorer, text: str, wanted: Mapping[str, str | None] | None = None
) -> list[Explanation]:
    """Which parts of `text` drove its labels.

    Args:
        scorer: what scores it.
        text: the post as it was scored.
        wanted: label of each task to explain; None: the highest of its scores. Default: every
            task but the language.

    Raises:
        KeyError: the scorer has no such task.
        ModelError: the scorer failed.
    """
    groups = _grouped(_units(text), MAX_PARTS)
    whole, nothing, *answers = scorer.score([text, "", *_occluded(text, groups)])
    chosen = {
        task: label or _highest(whole.tasks[task])
        for task, label in (wanted or dict.fromkeys(whole.tasks.keys() - {"language"})).items()
    }
    ends = _Ends(whole, nothing)
    seen = dict(zip(groups, _pairs(answers), strict=True))
    opened = _telling(groups, seen, ends, chosen)
    finer = [part for group in sorted(opened) for part in _grouped(group, MAX_PARTS)]
    if finer:
        answers = scorer.score(_occluded(text, finer))
        seen.update(zip(finer, _pairs(answers), strict=True))
    shown = sorted([*(group for group in groups if group not in opened), *finer])
    return [
        Explanation(
            task=task,
            label=label,
            score=_score(whole, task, label),
            spans=_spans(text, shown, _told(seen, ends, task, label)),
        )
        for task, label in sorted(chosen.items())
    ]


class _Ends(NamedTuple):
    """Scores of the whole text and of no text."""

    whole: TextScores
    nothing: TextScores


#: Scores of the text without each part, and of the part alone.
Seen = dict[Part, tuple[TextScores, TextScores]]


def _occluded(text: str, parts: Sequence[Part]) -> list[str]:
    """The text without each part, and that part alone: two by two."""
    return [read(text, part) for part in parts for read in (_without, _alone)]


def _pairs(answers: Sequence[TextScores]) -> list[tuple[TextScores, TextScores]]:
    return list(zip(answers[::2], answers[1::2], strict=True))


def _alone(text: str, part: Part) -> str:
    return text[part[0][0] : part[-1][1]]


def _telling(
    groups: Sequence[Part], seen: Seen, ends: _Ends, chosen: Mapping[str, str]
) -> set[Part]:
    """The groups of several words that did most, by their rank in any answer."""
    rank: dict[Part, int] = {}
    for task, label in chosen.items():
        told = _told(seen, ends, task, label)
        for place, group in enumerate(sorted(groups, key=lambda g: -abs(told[g][0]))):
            rank[group] = min(place, rank.get(group, place))
    several = [group for group in sorted(groups, key=lambda g: (rank[g], g)) if len(group) > 1]
    return set(several[:_OPENED])


def _units(text: str) -> list[Unit]:
    """Where the words are, without the signs around them; a letter where there are no spaces."""
    units: list[Unit] = []
    for match in _WORD.finditer(text):
        start, word = match.start(), match[0]
        at = 0
        for letter in _UNSPACED.finditer(word):
            if letter.start() > at:
                units.append((start + at, start + letter.start()))
            units.append((start + letter.start(), start + letter.end()))
            at = letter.end()
        if at < len(word):
            units.append((start + at, start + len(word)))
    trimmed = []
    for start, end in units:
        word = text[start:end]
        left = len(word) - len(word.lstrip(_EDGE))
        right = len(word) - len(word.rstrip(_EDGE))
        # A word of signs alone (`!!!`) says something, too.
        trimmed.append((start, end) if left == len(word) else (start + left, end - right))
    return trimmed


def _grouped(units: Sequence[Unit], most: int) -> list[Part]:
    """Neighbouring units in at most `most` parts of nearly equal size."""
    count = min(most, len(units))
    edges = [round(i * len(units) / count) for i in range(count + 1)] if count else [0]
    return [tuple(units[a:b]) for a, b in pairwise(edges)]


def _without(text: str, part: Part) -> str:
    left, right = text[: part[0][0]], text[part[-1][1] :]
    # One space is left where the part stood between two.
    return left + right[1:] if left[-1:].isspace() and right[:1].isspace() else left + right


def _highest(answer: TaskScore) -> str:
    return max(answer.scores, key=answer.scores.__getitem__, default=answer.label)


def _score(scores: TextScores, task: str, label: str) -> float:
    # A language that is not among the first few has no score in the answer.
    return scores.tasks[task].scores.get(label, 0.0)


def _log_odds(score: float) -> float:
    near = min(max(score, _NEAREST), 1 - _NEAREST)
    return math.log(near / (1 - near))


#: What each part did: (effect, score without it, score alone).
Told = Mapping[Part, tuple[float, float, float]]


def _told(seen: Seen, ends: _Ends, task: str, label: str) -> Told:
    full, empty = (_log_odds(_score(end, task, label)) for end in ends)
    told = {}
    for part, pair in seen.items():
        without, alone = (_score(scores, task, label) for scores in pair)
        taken, brought = full - _log_odds(without), _log_odds(alone) - empty
        told[part] = (max(taken, (taken + brought) / 2), without, alone)
    return told


def _spans(text: str, parts: Sequence[Part], told: Told) -> list[Span]:
    total = sum(max(told[part][0], 0.0) for part in parts)
    spans = []
    for part in parts:
        effect, without, alone = told[part]
        start, end = part[0][0], part[-1][1]
        before = _utf16(text[:start])
        spans.append(
            Span(
                start=start,
                end=end,
                start_utf16=before,
                end_utf16=before + _utf16(text[start:end]),
                text=text[start:end],
                effect=round(effect, 4),
                without=without,
                alone=alone,
                share=round(max(effect, 0.0) / total, 4) if total > 0 else 0.0,
            )
        )
    return spans


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
