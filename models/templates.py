"""Sentences with slots: the small language that contrast templates and functional pairs are written in.

`{name}` is a slot, `[a/b/]` a choice written in place. Invariant: a template's regular expression
(`pattern`) matches every sentence that can be made from it.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from models.errors import ModelBuildError

_CHOICE: Final = re.compile(r"\[([^\[\]]*)\]")
_SLOT: Final = re.compile(r"\{(\w+)\}")
_SENTENCE_ENDS: Final = ".!?…。！？।؟"

#: Which groups a line that begins with `@class` is about; a line without takes every group.
GROUP_CLASSES: Final[Mapping[str, frozenset[str]]] = {
    "faith": frozenset({"muslims", "jews", "christians", "hindus", "sikhs", "buddhists"}),
    "foreign": frozenset(
        {
            *("muslims", "jews", "africans", "asians", "arabs", "chinese", "indians", "mexicans"),
            *("turks", "poles", "russians", "roma", "nigerians", "kurds", "ukrainians", "syrians"),
            *("albanians", "romanians", "moroccans", "pakistanis", "afghans", "black_people"),
            *("immigrants", "refugees", "foreigners", "latinos", "venezuelans", "koreans"),
            *("vietnamese", "somalis", "rohingya", "brazilians", "filipinos", "asylum_seekers"),
        }
    ),
    "queer": frozenset({"gay_people", "lesbians", "trans_people", "bisexual_people"}),
    "body": frozenset(
        {"disabled_people", "autistic_people", "deaf_people", "blind_people", "wheelchair_users"}
    ),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a template file: a template, its minimal contrasts, and whom it is about."""

    template: str
    contrasts: tuple[str, ...] = ()
    groups: str | None = None


@dataclass(frozen=True, slots=True)
class Language:
    """A language's template file.

    Attributes:
        code: ISO 639-1, with a script where it is not the usual one (`hi-Latn`).
        stop: what ends a sentence.
        cased: whether the script has capitals.
        forms: names of the grammatical forms each group is given in; these are slots.
        groups: protected groups by id, in every form.
        people: groups by trade or side, which nobody protects, in every form.
        things: what is no person at all, in every form.
        fillers: every other slot.
        lines: the templates by function.
    """

    code: str
    stop: str
    cased: bool
    forms: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    people: tuple[tuple[str, ...], ...]
    things: tuple[tuple[str, ...], ...]
    fillers: Mapping[str, tuple[str, ...]]
    lines: Mapping[str, tuple[Line, ...]]

    def groups_of(self, line: Line) -> list[str]:
        """The ids of the groups that `line` can be about."""
        if line.groups is None:
            return list(self.groups)
        return [each for each in self.groups if each in GROUP_CLASSES[line.groups]]


def read_language(path: Path | Traversable) -> Language:
    """Read and check a template file.

    Raises:
        ModelBuildError: a group without one of its forms, a slot nobody fills, an empty line.
    """
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    forms = tuple(raw["forms"])
    language = Language(
        code=raw["language"],
        stop=raw.get("stop", "."),
        cased=raw.get("cased", True),
        forms=forms,
        groups={each: _forms(words, forms, path) for each, words in raw["groups"].items()},
        people=tuple(_forms(words, forms, path) for words in raw.get("people", [])),
        things=tuple(_forms(words, forms, path) for words in raw.get("things", [])),
        fillers={slot: tuple(words) for slot, words in raw.get("fillers", {}).items()},
        lines={
            function: tuple(_line(text) for text in block.splitlines() if text.strip())
            for function, block in raw["templates"].items()
        },
    )
    _check_slots(language, path)
    return language


def _forms(words: Any, forms: Sequence[str], path: Path | Traversable) -> tuple[str, ...]:
    given = (words,) if isinstance(words, str) else tuple(words)
    if len(given) != len(forms):
        raise ModelBuildError(
            f"`{given[0]}` has {len(given)} forms, the file names {len(forms)}",
            where=str(path),
            hint=f"give it as {', '.join(forms)}",
        )
    return given


def _line(text: str) -> Line:
    groups = None
    text = text.strip()
    if text.startswith("@"):
        name, text = text[1:].split(" ", 1)
        groups = name
    template, *contrasts = (part.strip() for part in text.split("|"))
    return Line(template, tuple(contrasts), groups)


def _check_slots(language: Language, path: Path | Traversable) -> None:
    known = {*language.fillers, *language.forms, *(f"{form}2" for form in language.forms), "c"}
    for function, lines in language.lines.items():
        for line in lines:
            if line.groups is not None and line.groups not in GROUP_CLASSES:
                raise ModelBuildError(
                    f"no such class of groups: `@{line.groups}`",
                    where=f"{path}: {function}",
                    hint=f"there are {', '.join(GROUP_CLASSES)}",
                )
            for template in (line.template, *line.contrasts):
                unknown = set(_SLOT.findall(template)) - known
                if unknown or not template:
                    raise ModelBuildError(
                        f"slot `{', '.join(unknown)}` of `{template}` has no fillers",
                        where=f"{path}: {function}",
                        hint="add it to `fillers`, or correct the template",
                    )


def has_group(template: str, language: Language) -> bool:
    """Whether the template names a group by a slot."""
    return not set(language.forms).isdisjoint(_SLOT.findall(template))


def is_clause(template: str) -> bool:
    """Whether the template is one plain statement, which another sentence can quote."""
    return not any(end in template for end in _SENTENCE_ENDS)


class Binding:
    """What the slots of one contrast set stand for: the same word wherever a slot comes again."""

    def __init__(
        self, language: Language, rng: random.Random, group: Sequence[str], other: Sequence[str]
    ) -> None:
        self._language = language
        self._rng = rng
        self._values = dict(zip(language.forms, group, strict=True))
        self._values |= {f"{form}2": word for form, word in zip(language.forms, other, strict=True)}

    def with_group(self, group: Sequence[str]) -> Binding:
        """The same words, about somebody else."""
        copy = Binding(self._language, self._rng, group, group)
        copy._values = {**self._values, **copy._values}
        return copy

    def __call__(self, slot: str) -> str:
        """The word a slot stands for."""
        if slot not in self._values:
            self._values[slot] = self._rng.choice(self._language.fillers[slot])
        return self._values[slot]

    def fill(self, template: str, **given: str) -> str:
        """The sentence: choices made, slots filled, spaces put right."""
        chosen = _CHOICE.sub(lambda found: self._rng.choice(found[1].split("/")), template)
        filled = _SLOT.sub(lambda found: given.get(found[1]) or self(found[1]), chosen)
        return re.sub(r"\s+([,.!?])", r"\1", re.sub(r" {2,}", " ", filled)).strip()


def finish(text: str, language: Language) -> str:
    """A clause as a sentence: a capital at the beginning, a stop at the end."""
    if language.cased:
        for i, char in enumerate(text):
            if char.isalpha():
                upper = "İ" if language.code == "tr" and char == "i" else char.upper()
                text = text[:i] + upper + text[i + 1 :]
                break
            if char not in "¿¡\"“„«'(":
                break
    if text[-1] not in _SENTENCE_ENDS + "\"”“»'":
        text += language.stop
    return text


def bare(template: str) -> str:
    """The template without slots, choices, case and punctuation: what two files must not share."""
    text = _CHOICE.sub(" ", _SLOT.sub(" ", template)).casefold()
    return " ".join(re.findall(r"\w+", text))


def pattern(template: str, language: Language, clause: str = ".+") -> re.Pattern[str]:
    """A regular expression for all that can be made of a template (case and spaces aside)."""

    def words(slot: str) -> list[str]:
        name = slot.removesuffix("2")
        if name in language.forms:
            i = language.forms.index(name)
            every = (*language.groups.values(), *language.people, *language.things)
            return [each[i] for each in every]
        return list(language.fillers[slot])

    def literal(text: str) -> str:
        return r"\W*".join(re.escape(word) for word in re.findall(r"\w+", text.casefold()))

    def slots(text: str, then: Callable[[str], str]) -> str:
        parts: list[str] = []
        at = 0
        for found in _SLOT.finditer(text):
            parts.append(then(text[at : found.start()]))
            inner = clause if found[1] == "c" else "|".join(literal(w) for w in words(found[1]))
            parts.append(f"(?:{inner})")
            at = found.end()
        return r"\W*".join([*parts, then(text[at:])])

    parts: list[str] = []
    at = 0
    for found in _CHOICE.finditer(template):
        parts.append(slots(template[at : found.start()], literal))
        parts.append(f"(?:{'|'.join(slots(option, literal) for option in found[1].split('/'))})")
        at = found.end()
    parts.append(slots(template[at:], literal))
    return re.compile(r"\W*" + r"\W*".join(parts) + r"\W*", re.DOTALL)
