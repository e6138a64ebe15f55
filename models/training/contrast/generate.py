"""Draw contrast sentences from the templates: each attack with sentences that look like it.

Invariant: the same seed and the same files give the same rows in the same order, and no text comes
twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from models.templates import (
    Binding,
    Language,
    Line,
    finish,
    has_group,
    is_clause,
    read_language,
)
from models.training.contrast.functions import (
    ATTACKS,
    ATTACKS_ON_THINGS,
    DISARMING_FRAMES,
    NOTHING,
    ON_PEOPLE,
    SINGLES,
    Labels,
    disarmed,
)
from models.training.contrast.perturb import perturb

_PERTURBED_SHARE: Final = 1 / 7
_SET_SHARE: Final = 0.6
_ENDORSED_SHARE: Final = 0.25
_GARNISHED_SHARE: Final = 0.15
_BESIDE_SHARE: Final = 0.12
#: Of what stands alone, what somebody may also say with weight.
_ENDORSABLE: Final = frozenset({"praise", "neutral", "support"})
#: So many draws in a row without a new text: the templates have no more to give.
_PATIENCE: Final = 2_000


class ContrastRow(NamedTuple):
    """One sentence.

    `target`: toxic, severe_toxic, obscene, threat, insult, identity_attack; -1: unknown. Rows with
    the same `pair_id` were made from the same words, and differ in what they say.
    """

    text: str
    lang: str
    target: Labels
    function: str
    pair_id: str


class _Draft(NamedTuple):
    text: str
    target: Labels
    function: str


@cache
def load_languages() -> Mapping[str, Language]:
    """The template files by language code."""
    folder = resources.files(__package__) / "languages"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=str)
    return {language.code: language for language in map(read_language, files)}


def languages() -> list[str]:
    """The codes of the languages there are templates in."""
    return list(load_languages())


def generate(
    seed: int, n_per_language: int, only: Iterable[str] | None = None
) -> list[ContrastRow]:
    """At least `n_per_language` rows of each language, or all there are if that is fewer.

    Args:
        seed: of the draw.
        n_per_language: rows of each language; the last set is kept whole.
        only: language codes; default: all.
    """
    wanted = set(languages()) if only is None else set(only)
    rows: list[ContrastRow] = []
    for code, language in load_languages().items():
        if code in wanted:
            rows.extend(_rows(language, random.Random(f"{seed} {code}"), n_per_language))
    return rows


def _rows(language: Language, rng: random.Random, wanted: int) -> Iterator[ContrastRow]:
    seen: set[str] = set()
    drawn, number, idle = 0, 0, 0
    while drawn < wanted and idle < _PATIENCE:
        drafts = (
            _contrast_set(language, rng) if rng.random() < _SET_SHARE else [_single(language, rng)]
        )
        number += 1
        idle += 1
        for draft in drafts:
            text = _spell(draft.text, language, rng)
            if text in seen:
                continue
            seen.add(text)
            drawn += 1
            idle = 0
            code = language.code.split("-")[0]
            yield ContrastRow(
                text, code, draft.target, draft.function, f"{language.code}-{number:06}"
            )


def _spell(clause: str, language: Language, rng: random.Random) -> str:
    """The clause as it is posted: at times with an opener or a closer, at times misspelt."""
    if rng.random() >= _GARNISHED_SHARE:
        text = finish(clause, language)
    elif rng.random() < 0.5:
        text = finish(f"{rng.choice(language.fillers['opener'])} {clause}", language)
    else:
        text = f"{finish(clause, language)} {rng.choice(language.fillers['closer'])}"
    if rng.random() < _BESIDE_SHARE:
        text = _beside(text, language, rng)
    if rng.random() < _PERTURBED_SHARE:
        text = perturb(text, rng, cased=language.cased)
    return text


def _beside(text: str, language: Language, rng: random.Random) -> str:
    """The text with a sentence of small talk before or behind it: an attack is still one."""
    line = rng.choice(language.lines["chat"])
    talk = finish(_bind(language, line, rng).fill(line.template), language)
    return " ".join((talk, text) if rng.random() < 0.5 else (text, talk))


def _bind(language: Language, line: Line, rng: random.Random) -> Binding:
    ids = language.groups_of(line)
    first = rng.choice(ids)
    second = rng.choice([each for each in language.groups if each != first])
    return Binding(language, rng, language.groups[first], language.groups[second])


def _frame(language: Language, frame: str, clause: str, bound: Binding, rng: random.Random) -> str:
    template = rng.choice(language.lines[frame]).template
    return bound.fill(template, c=clause)


def _contrast_set(language: Language, rng: random.Random) -> list[_Draft]:
    """An attack, and two of: its written contrast, a frame that takes it back, another target."""
    functions = [each for each in ATTACKS if each in language.lines]
    function = rng.choices(functions, [len(language.lines[each]) for each in functions])[0]
    line = rng.choice(language.lines[function])
    bound = _bind(language, line, rng)
    attack = bound.fill(line.template)
    clause = is_clause(line.template)

    others: list[_Draft] = []
    for contrast in line.contrasts:
        text = bound.fill(contrast)
        if is_clause(contrast) and rng.random() < _ENDORSED_SHARE:
            text = _frame(language, "endorse", text, bound, rng)
        others.append(_Draft(text, disarmed(function), f"{function}_contrast"))
    if clause:
        others.extend(
            _Draft(_frame(language, frame, attack, bound, rng), disarmed(function), frame)
            for frame in DISARMING_FRAMES
        )
    if line.groups is None and has_group(line.template, language):
        if language.people and function != "profane":
            elsewhere = bound.with_group(rng.choice(language.people))
            others.append(_Draft(elsewhere.fill(line.template), ON_PEOPLE, "on_people"))
        if language.things and function in ATTACKS_ON_THINGS:
            elsewhere = bound.with_group(rng.choice(language.things))
            others.append(_Draft(elsewhere.fill(line.template), NOTHING, "on_things"))

    if clause and rng.random() < _ENDORSED_SHARE:
        attack = _frame(language, "endorse", attack, bound, rng)
    chosen = rng.sample(others, min(rng.choice((1, 2, 2)), len(others)))
    if line.contrasts and not any(each.function.endswith("_contrast") for each in chosen):
        chosen[0] = others[0]
    return [_Draft(attack, ATTACKS[function], function), *chosen]


def _single(language: Language, rng: random.Random) -> _Draft:
    functions = [each for each in SINGLES if each in language.lines]
    shares = [SINGLES[each][1] * min(1.0, len(language.lines[each]) / 4) for each in functions]
    function = rng.choices(functions, shares)[0]
    line = rng.choice(language.lines[function])
    bound = _bind(language, line, rng)
    text = bound.fill(line.template)
    if function in _ENDORSABLE and is_clause(line.template) and rng.random() < 0.15:
        text = _frame(language, "endorse", text, bound, rng)
    return _Draft(text, SINGLES[function][0], function)
