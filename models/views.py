"""The second view of a text that hides its words: look-alikes, zero-width, spaced, leet, stretched.

The original is always kept and scored; a view is scored beside it and can only raise what is
detected. A text that hides nothing has no second view and costs nothing.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

#: Digits and signs as people write letters with them.
_LEET: Final = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i",
     "|": "l", "€": "e"}
)  # fmt: skip
_HIDDEN: Final = re.compile(
    "(?<=[A-Za-z\u0370-\u04ff])[\u00ad\u034f\u180e\u200b-\u200f\u2060-\u2064\ufeff]+"
    "|[\u202a-\u202e]"
)
#: At least four single letters, each with the same short gap behind it.
_SPACED: Final = re.compile(
    r"(?<![^\W_])[^\W\d_](?P<gap>[ .\-_*~·]{1,2})[^\W\d_](?:(?P=gap)[^\W\d_]){2,}(?![^\W_])"
)
_STRETCHED: Final = re.compile(r"([^\W\d_])\1{2,}")
_WORD: Final = re.compile(r"\S+")
_LEET_SIGN: Final = re.compile(
    r"(?<=[a-zA-Z])[013457@$!|€]+(?=[a-zA-Z])"
    r"|(?<![\w@#$])[1457$](?=[a-zA-Z!|@][a-zA-Z013457@$!|€]{2})"
    r"|(?<=[a-zA-Z])(?:\$\$+|55)(?!\w)"
)
#: Digits that are digits, and an address: h1n1, mp3s, someone@example.org.
_PLAIN_CODE: Final = re.compile(
    r"(?:[a-z]\d){2,}\W*|[a-z]{1,4}\d+s\W*|\S+@\S+\.\w+\W*", re.IGNORECASE
)
#: A word that begins so is an address, a handle, a tag or an entity.
_NOT_WORDS: Final = ("http://", "https://", "www.", "@", "#", "&")
#: Marks that no letter is spelt with: strokes through it, or several that do not melt into it.
_MARKS: Final = re.compile("[\u0300-\u036f\u0488\u0489\u20d0-\u20ff]{2,}|[\u0334-\u0338]")
#: Written twice at a word's end more often than once.
_DOUBLED: Final = frozenset("sl")


def second_view(text: str) -> str:
    """`text` as it would be read aloud; the same string where nothing is hidden."""
    seen = text
    if not text.isascii():
        seen = _HIDDEN.sub("", seen)
        seen = _without_marks(seen)
        seen = _WORD.sub(lambda match: _without_look_alikes(match[0]), seen)
    seen = _SPACED.sub(lambda match: match[0].replace(match["gap"], ""), seen)
    seen = _WORD.sub(lambda match: _without_leet(match[0]), seen)
    return _STRETCHED.sub(_shortened, seen)


def _without_marks(text: str) -> str:
    """Without the marks that hide a letter; accents are spelling."""
    composed = unicodedata.normalize("NFC", text)
    return text if _MARKS.search(composed) is None else _MARKS.sub("", composed)


@cache
def _look_alikes() -> dict[int, str]:
    """Greek, Cyrillic and other letters by the Latin letter that they are taken for."""
    # Its data are loaded when it is first asked; a feed without any such word never asks.
    from confusable_homoglyphs import confusables

    table: dict[int, str] = {}
    for character, others in confusables.confusables_data.items():
        if len(character) != 1 or character.isascii() or not character.isalpha():
            continue
        latin = next((o["c"] for o in others if len(o["c"]) == 1 and o["c"].isascii()), None)
        if latin is not None and latin.isalpha():
            # The table says `l` for a capital I's twins, too; upper case stays upper case.
            table[ord(character)] = latin.upper() if character.isupper() else latin
    return table


@cache
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "FULLWIDTH LATIN"))


def _without_look_alikes(word: str) -> str:
    """A word of Latin letters and letters that look like Latin ones, in Latin letters.

    A word of one script is left alone: it is what it looks like. So is one whose other letters
    look like nothing Latin, as in `Tシャツ`.
    """
    if word.isascii():
        return word
    letters = [c for c in word if c.isalpha()]
    foreign = [c for c in letters if not _is_latin(c)]
    if not foreign or len(foreign) == len(letters):
        return word
    table = _look_alikes()
    if any(ord(c) not in table for c in foreign):
        return word
    return word.translate({ord(c): table[ord(c)] for c in foreign})


def _without_leet(word: str) -> str:
    """A word in which digits and signs stand for letters, in letters."""
    if word.isalpha() or word.startswith(_NOT_WORDS) or _PLAIN_CODE.fullmatch(word):
        return word
    return _LEET_SIGN.sub(lambda match: match[0].translate(_LEET), word)


def _shortened(match: re.Match[str]) -> str:
    """A letter pulled long, once; twice where a word likes to end so."""
    letter, end = match[1], match.end()
    at_end = end == len(match.string) or not match.string[end].isalnum()
    return letter * 2 if at_end and letter.lower() in _DOUBLED else letter
