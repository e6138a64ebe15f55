"""Finds the terms of word lists in a text, also disguised, and where they stand in the original.

One Aho-Corasick automaton holds an anchor of every term of every list; what it finds in one of
the readings of a text (plain, leet, spaced out) is then verified letter by letter. Invariant: a
hit inside a stretch that the list's allow-list covers is no hit, in whatever reading it is found.

What counts as the same letters: case, accents, look-alikes and invisible characters are folded;
three or more of a letter pass for one; digits and signs pass for letters, if at least one letter
is a letter; single letters may be set apart. A term's own double letters must be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import ahocorasick

from stream.policy.folding import GAP, JOINT, SPACED, fold, fold_with_origins, squeeze, unleeted

#: As many letters may stand for a `*` within a word.
_GAP_CHARS = 12
#: Scripts that put no spaces between words: a term in them is found anywhere.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
_FRAGMENT = re.compile(r"[^*?]+")


@dataclass(frozen=True, slots=True)
class Hit:
    """A term found: `text[start:end]`, Python offsets."""

    term: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class WordList:
    """Terms to find, terms that are fine, and whether disguises count.

    `*` at an end of a term is any letters there, within it up to a dozen, `?` one character.
    """

    name: str
    terms: Sequence[str]
    allow: Sequence[str] = ()
    fold: bool = True


class TermError(ValueError):
    """A term that cannot be searched for."""


class Term:
    """One term, ready to be verified where its anchor was found."""

    def __init__(self, written: str, *, folded: bool) -> None:
        self.written = written
        self.folded = folded
        core = fold(written.strip())
        self.open_start = core.startswith("*")
        self.open_end = core.endswith("*")
        core = core.strip("*").strip()
        fragments = _FRAGMENT.findall(core)
        if not fragments or not any(c.isalnum() for c in core):
            raise TermError("there is no letter in the term")
        self.anchor = max((squeeze(f.strip()) for f in fragments), key=len)
        if len(self.anchor) < 2 and not _UNSPACED.search(self.anchor):
            raise TermError("the term has no two different letters in a row to look for")
        self.literal = squeeze(core) if len(fragments) == 1 and core == fragments[0] else None
        self.runs = _runs(core)
        self._pattern = None if self.literal is not None else re.compile(_pattern(core))
        self.bound_start = not self.open_start and not _UNSPACED.match(core)
        self.bound_end = not self.open_end and not _UNSPACED.match(core[-1])

    def places(self, reading: Reading, anchor_end: int) -> Iterator[tuple[int, int]]:
        """Where the term stands around an anchor, in characters of the squeezed reading."""
        if self._pattern is None:
            start = anchor_end - len(self.anchor) + 1
            if self._runs_fit(reading, start):
                yield start, anchor_end + 1
            return
        around = _GAP_CHARS * 2 + 2 * len(self.runs)
        begin = max(0, anchor_end - around)
        for found in self._pattern.finditer(reading.squeezed, begin, anchor_end + around):
            if found.start() <= anchor_end < found.end():
                yield found.start(), found.end()

    def _runs_fit(self, reading: Reading, start: int) -> bool:
        """Double letters are as in the term, or drawn out to three and more."""
        runs = reading.run_lengths[start : start + len(self.runs)]
        return len(runs) == len(self.runs) and all(
            there == own or (there >= 3 and there > own) or char == " "
            for there, (char, own) in zip(runs, self.runs, strict=True)
        )


class Reading:
    """One way to read a text, squeezed, with the way back to the original.

    Args:
        chars: the characters as read.
        origins: for each the index of the original character.
        plain: for each the folded character before signs were read as letters.
        free: indices of `chars` that belong to spaced-out letters, where words have no ends.
    """

    def __init__(
        self, chars: str, origins: Sequence[int], plain: str, free: frozenset[int] = frozenset()
    ) -> None:
        self.chars = chars
        self.origins = origins
        self.plain = plain
        self.free = free

    @cached_property
    def squeezed(self) -> str:
        """The characters, runs as one."""
        return squeeze(self.chars)

    @cached_property
    def _starts(self) -> list[int]:
        chars = self.chars
        starts = [i for i, char in enumerate(chars) if i == 0 or chars[i - 1] != char]
        return [*starts, len(chars)]

    @cached_property
    def run_lengths(self) -> list[int]:
        """How often each character of `squeezed` stands in a row."""
        starts = self._starts
        return [after - start for start, after in pairwise(starts)]

    def find(self, term: Term, anchor_end: int) -> Iterator[tuple[int, int]]:
        """Stretches of the original text where the term stands around an anchor."""
        for squeezed_start, squeezed_end in term.places(self, anchor_end):
            start, end = self._starts[squeezed_start], self._starts[squeezed_end]
            if not self._is_word(term, start, end):
                continue
            if not any(char.isalpha() for char in self.plain[start:end]):
                continue  # a number, read as letters
            while term.open_start and start > 0 and _in_word(self.plain[start - 1]):
                start -= 1
            while term.open_end and end < len(self.plain) and _in_word(self.plain[end]):
                end += 1
            yield self.origins[start], self.origins[end - 1] + 1

    def _is_word(self, term: Term, start: int, end: int) -> bool:
        if start in self.free and end - 1 in self.free and end - start >= 4:
            return True
        before_ok = not term.bound_start or start == 0 or not _in_word(self.plain[start - 1])
        after_ok = not term.bound_end or end == len(self.plain) or not _in_word(self.plain[end])
        return before_ok and after_ok


class WordIndex:
    """All word lists of a policy in one automaton."""

    def __init__(self, lists: Mapping[str, WordList]) -> None:
        self._terms: list[tuple[str, bool, Term]] = []
        anchors: dict[str, list[int]] = {}
        for name, words in lists.items():
            for allowed, written in [
                *((False, t) for t in words.terms),
                *((True, t) for t in words.allow),
            ]:
                term = Term(written, folded=words.fold)
                anchors.setdefault(term.anchor, []).append(len(self._terms))
                self._terms.append((name, allowed, term))
        self._automaton = ahocorasick.Automaton()
        for anchor, numbers in anchors.items():
            self._automaton.add_word(anchor, tuple(numbers))
        if anchors:
            self._automaton.make_automaton()
        self._empty = not anchors

    def hits(self, text: str) -> dict[str, list[Hit]]:
        """Every list with a hit in the text, its hits in the order of the text."""
        if self._empty or not text:
            return {}
        folded = fold(text)
        if not self._possible(folded):
            return {}
        found: dict[str, dict[tuple[int, int], str]] = {}
        allowed: dict[str, set[tuple[int, int]]] = {}
        for reading in _readings(text):
            for anchor_end, numbers in self._automaton.iter(reading.squeezed):
                for number in numbers:
                    name, is_allowed, term = self._terms[number]
                    for start, end in reading.find(term, anchor_end):
                        if is_allowed:
                            allowed.setdefault(name, set()).add((start, end))
                        elif term.folded or _same(text[start:end], term.written):
                            found.setdefault(name, {}).setdefault((start, end), term.written)
        return {
            name: hits
            for name, places in found.items()
            if (hits := _not_allowed(places, allowed.get(name, set())))
        }

    def _possible(self, folded: str) -> bool:
        """Is there an anchor in any reading? Most posts end here."""
        squeezed = squeeze(folded)
        find = self._automaton.iter
        for end, numbers in find(squeezed):
            if any(self._may_be_word(squeezed, end, number) for number in numbers):
                return True
        for read in unleeted(folded):
            if next(find(squeeze(read)), None) is not None:
                return True
        gaps, _ = _gaps(folded)
        if not gaps:
            return False
        stretches = _between(gaps, len(folded))
        for read in [folded, *unleeted(folded)]:
            joined = "".join([read[begin:end] for begin, end in stretches])
            if next(find(squeeze(joined)), None) is not None:
                return True
        return False

    def _may_be_word(self, squeezed: str, end: int, number: int) -> bool:
        term = self._terms[number][2]
        if term.literal is None:
            return True
        start = end - len(term.anchor)
        return not (
            (term.bound_start and start >= 0 and _in_word(squeezed[start]))
            or (term.bound_end and end + 1 < len(squeezed) and _in_word(squeezed[end + 1]))
        )


def _readings(text: str) -> Iterator[Reading]:
    """Plain, with signs as letters, and both with what is set apart drawn together."""
    folded, origins = fold_with_origins(text)
    reads = [folded, *unleeted(folded)]
    for read in reads:
        yield Reading(read, origins, folded)
    gaps, runs = _gaps(folded)
    if not gaps:
        return
    kept = [i for begin, end in _between(gaps, len(folded)) for i in range(begin, end)]
    apart = {i for begin, end in runs for i in range(begin, end)}
    free = frozenset(at for at, i in enumerate(kept) if i in apart)
    plain = "".join([folded[i] for i in kept])
    for read in reads:
        chars = "".join([read[i] for i in kept])
        yield Reading(chars, [origins[i] for i in kept], plain, free)


def _gaps(folded: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What stands between letters of one word, and the runs of single letters set apart."""
    gaps = {joint.span() for joint in JOINT.finditer(folded)}
    runs = [run.span() for run in SPACED.finditer(folded)]
    for begin, end in runs:
        gaps.update(gap.span() for gap in GAP.finditer(folded, begin, end))
    return sorted(gaps), runs


def _between(gaps: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The stretches that are no gap."""
    begins = [0, *(end for _, end in gaps)]
    ends = [*(begin for begin, _ in gaps), length]
    return list(zip(begins, ends, strict=True))


def _not_allowed(places: Mapping[tuple[int, int], str], allowed: set[tuple[int, int]]) -> list[Hit]:
    """Hits that no allowed stretch and no longer hit covers, in the order of the text.

    Both in one sweep: a text may be one word a thousand times.
    """
    hits = []
    allowed_to = found_to = -1
    # Of what begins at one place the longest comes first, and what allows before what finds.
    stretches = [(start, -end, False) for start, end in allowed] + [
        (start, -end, True) for start, end in places
    ]
    for start, negative_end, is_hit in sorted(stretches):
        end = -negative_end
        if not is_hit:
            allowed_to = max(allowed_to, end)
        elif end > allowed_to and end > found_to:
            hits.append(Hit(places[start, end], start, end))
            found_to = end
    return hits


def _same(text: str, written: str) -> bool:
    """For lists that do not fold: the term's own letters, but for case."""
    pattern = "".join({"*": r"\w*", "?": "."}.get(c, re.escape(c)) for c in written.strip())
    return re.fullmatch(pattern, text, re.IGNORECASE) is not None


def _pattern(core: str) -> str:
    """Of a term with `*` or `?` in it, for a squeezed text."""
    parts = {"*": rf"[^\s]{{0,{_GAP_CHARS}}}?", "?": r"[^\s]"}
    pieces = re.findall(r"[*?]|[^*?]+", core)
    return "".join(parts.get(piece) or re.escape(squeeze(piece)) for piece in pieces)


def _runs(core: str) -> list[tuple[str, int]]:
    return [(found[0][0], len(found[0])) for found in re.finditer(r"(.)\1*", core, re.DOTALL)]


def _in_word(char: str) -> bool:
    return char.isalnum() or "\u0900" <= char <= "\u0dff"
