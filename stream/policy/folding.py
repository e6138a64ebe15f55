"""Folds text so that a word is found however it is disguised: case, accents, look-alikes, leet.

Terms and texts are folded the same way, so nothing is lost that both have in common. Only for
matching: models score and people see the original. Invariant: `fold` maps character by character
(one character gives none, one or several), so every place in the folded text has one in the
original.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from operator import itemgetter
from typing import Final

from anyascii import anyascii
from confusable_homoglyphs import confusables

#: Digits and signs that stand for letters within a word. `1`, `!` and `|` may also be an l.
LEET: Final = {
    "0": "o",
    "1": "i",
    "3": "e",
    "4": "a",
    "5": "s",
    "7": "t",
    "8": "b",
    "9": "g",
    "@": "a",
    "$": "s",
    "!": "i",
    "|": "i",
    "€": "e",
    "£": "l",
}
#: The scripts whose letters pass for Latin ones.
_LOOK_ALIKE = ("CYRILLIC ", "GREEK ", "ARMENIAN ", "CHEROKEE ", "LISU ", "COPTIC ")
#: Signs that leet needs, and a Cyrillic letter of its own that Unicode takes for an accented one.
_KEPT: Final = frozenset("€£йЙ")
#: Accents, strike-throughs, enclosing marks, variation selectors, Hebrew and Arabic vowel points.
#: Vowel signs of Indic scripts and the marks of kana make other words of a word: they are kept.
_DROPPED_MARKS: Final = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff"
    "\ufe00-\ufe0f\ufe20-\ufe2f\U000e0100-\U000e01ef]"
)
_HANGUL: Final = re.compile("[\u1100-\u11ff]+$")


class _FoldTable(dict[int, str]):
    """For `str.translate`: computes a character's fold once."""

    def __missing__(self, code: int) -> str:
        folded = _fold_char(chr(code))
        self[code] = folded
        return folded


_TABLE: Final = _FoldTable()


def fold(text: str) -> str:
    """Lower case, without accents and invisible characters, look-alikes as their Latin letters."""
    return text.translate(_TABLE)


def fold_with_origins(text: str) -> tuple[str, list[int]]:
    """As `fold`, and for every character of the result the index of the one it came from."""
    pieces: list[str] = []
    origins: list[int] = []
    for index, char in enumerate(text):
        piece = _TABLE[ord(char)]
        pieces.append(piece)
        origins.extend([index] * len(piece))
    return "".join(pieces), origins


def _fold_char(char: str) -> str:  # noqa: PLR0911 - one line per kind of character
    if char.isascii():
        return " " if char.isspace() else char.lower()
    category = unicodedata.category(char)
    if category in ("Cf", "Cs") or char == "\u3164" or _DROPPED_MARKS.match(char):
        return ""
    if category.startswith("Z"):
        return " "
    if char in _KEPT:
        return char.casefold()
    parts = unicodedata.normalize("NFKD", char)
    if parts != char and not any(_is_kept_mark(part) for part in parts):
        composed = unicodedata.normalize("NFKC", char)
        # Hangul falls apart into its letters; a syllable is what people write.
        return (
            composed
            if composed == char and len(parts) > 1 and _HANGUL.match(parts)
            else "".join(map(_fold_char, parts))
        )
    name = unicodedata.name(char, "")
    if name.startswith(_LOOK_ALIKE):
        return _latin_look_alike(char) or char.casefold()
    if name.startswith(("LATIN ", "MODIFIER LETTER ")) or (
        category in ("So", "Sk", "Lm", "No") and "LETTER" in name
    ):
        plain = anyascii(char).lower()
        return plain if plain.isalnum() else char.casefold()
    return unicodedata.normalize("NFKC", char).casefold()


def _is_kept_mark(char: str) -> bool:
    return unicodedata.category(char) == "Mn" and not _DROPPED_MARKS.match(char)


@lru_cache(maxsize=4096)
def _latin_look_alike(char: str) -> str | None:
    """The Latin letter that a letter of another script is drawn like."""
    for form in dict.fromkeys((char.lower(), char, char.upper())):
        found = confusables.is_confusable(form, greedy=True, preferred_aliases=["latin"])
        if not found:
            continue
        for group in found:
            for glyph in group["homoglyphs"]:
                letter = glyph["c"].lower()
                if len(letter) == 1 and letter.isascii() and letter.isalpha():
                    return str(letter)
    return None


_RUN = re.compile(r"(.)\1+", re.DOTALL)
#: As the replacement `\1`, which is Python code within `re` and takes twice as long.
_FIRST = itemgetter(1)
_LEET_TABLE: Final = str.maketrans(LEET)
_LEET: Final = re.compile(f"[{re.escape(''.join(LEET))}]")
_AMBIGUOUS: Final = re.compile(r"[1!|]")
_AMBIGUOUS_TABLE: Final = str.maketrans({**LEET, "1": "l", "!": "l", "|": "l"})
_LETTER = r"[^\W_]|[@$!|€£]"
#: Three or more single characters with something between them: `i d i o t`, `i.d.i.o.t`.
SPACED: Final = re.compile(
    rf"(?<![^\W_])(?:(?:{_LETTER})[ ._*~+,·•-]{{1,2}}){{2,}}(?:{_LETTER})(?![^\W_])"
)
#: What sets the letters of `SPACED` apart.
GAP: Final = re.compile(r"[ ._*~+,·•-]+")
#: What stands between two letters of one word: `id-iot`, `id*iot`.
JOINT: Final = re.compile(r"(?<=[^\W_])[._*~+^·•-]+(?=[^\W_])")


def squeeze(folded: str) -> str:
    """Every run of one character as that character."""
    return _RUN.sub(_FIRST, folded)


def unleeted(folded: str) -> list[str]:
    """The text with digits and signs read as letters, in both ways where there are two; or none."""
    if not _LEET.search(folded):
        return []
    read = [folded.translate(_LEET_TABLE)]
    if _AMBIGUOUS.search(folded):
        read.append(folded.translate(_AMBIGUOUS_TABLE))
    return read
