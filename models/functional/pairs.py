"""The pairs of the functional set, made from the template files beside this one.

Invariant: the same files give the same pairs in the same order on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from models.templates import Binding, Language, Line, finish, has_group, read_language

#: Pairs drawn from one template that has a slot for a group, each about another group.
_GROUPS_PER_LINE: Final = 3
#: The function whose pairs are others misspelt; English only.
SPELLING: Final = "spelling"
_SPELLING_PAIRS: Final = 60
_LEET: Final = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5"})


class FunctionalPair(NamedTuple):
    """Two texts with nearly the same words: `attack` is on a group, `other` attacks nobody's group.

    `lang` is the language code of the labels, `file` the template file (`hi-Latn` is Hindi too).
    """

    attack: str
    other: str
    lang: str
    function: str
    file: str


def _leet(word: str) -> str:
    return word.translate(_LEET)


def _dotted(word: str) -> str:
    return ".".join(word)


def _spaced(word: str) -> str:
    return " ".join(word)


def _without_vowels(word: str) -> str:
    return word[0] + "".join(char for char in word[1:] if char not in "aeiou")


def _drawn_out(word: str) -> str:
    return word[:-1] + word[-1] * 4


_RESPELLINGS: Final = (_leet, _dotted, _spaced, _without_vowels, _drawn_out)


def _respelt(text: str, number: int) -> str:
    """The longest words of `text`, two of them, spelt in the way `number` says."""
    words = text.split(" ")
    longest = sorted(range(len(words)), key=lambda i: (-len(words[i]), i))[:2]
    respell = _RESPELLINGS[number % len(_RESPELLINGS)]
    return " ".join(respell(word) if i in longest else word for i, word in enumerate(words))


def _pairs_of_line(
    language: Language, function: str, line: Line, rng: random.Random
) -> Iterator[FunctionalPair]:
    ids = language.groups_of(line)
    slots = has_group(line.template, language)
    for group in rng.sample(ids, min(_GROUPS_PER_LINE if slots else 1, len(ids))):
        second = rng.choice([each for each in language.groups if each != group])
        bound = Binding(language, rng, language.groups[group], language.groups[second])
        for contrast in line.contrasts:
            attack, other = bound.fill(line.template), bound.fill(contrast)
            yield FunctionalPair(
                finish(attack, language),
                finish(other, language),
                language.code.split("-")[0],
                function,
                language.code,
            )


def _pairs_of_language(language: Language) -> Iterator[FunctionalPair]:
    rng = random.Random(f"functional {language.code}")
    plain: list[FunctionalPair] = []
    seen: set[tuple[str, str]] = set()
    for function, lines in language.lines.items():
        for line in lines:
            for pair in _pairs_of_line(language, function, line, rng):
                if (pair.attack, pair.other) not in seen:
                    seen.add((pair.attack, pair.other))
                    plain.append(pair)
    yield from plain
    if language.code == "en":
        for number, pair in enumerate(rng.sample(plain, _SPELLING_PAIRS)):
            yield pair._replace(
                attack=_respelt(pair.attack, number),
                other=_respelt(pair.other, number),
                function=SPELLING,
            )


@cache
def functional_languages() -> tuple[Language, ...]:
    """The template files, by name."""
    folder = resources.files(__package__) / "pairs"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=str)
    return tuple(read_language(each) for each in files)


def functional_pairs(only: Iterable[str] | None = None) -> list[FunctionalPair]:
    """Every pair of the set, or those in the languages `only` (codes such as `de`)."""
    wanted = None if only is None else set(only)
    return [
        pair
        for language in functional_languages()
        for pair in _pairs_of_language(language)
        if wanted is None or pair.lang in wanted or pair.file in wanted
    ]
