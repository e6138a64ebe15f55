"""Short pieces of dev sentences: how well is the language of one word, or of three, recognised?

The pieces of a text depend on the text, its place in the file and the seed alone, so that figures
of two models are figures of the same pieces.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from typing import Final

#: Languages written without spaces between words: a "word" of theirs is one letter.
UNSPACED: Final = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "yue", "wuu", "dz"})
#: Seed of the pieces that figures are reported for.
SEED: Final = 20261122


def units(text: str, lang: str) -> list[str]:
    """The words of `text` that hold a letter; its letters where the script has no spaces."""
    if lang in UNSPACED:
        return [char for char in text if unicodedata.category(char)[0] in "LM"]
    return [word for word in text.split() if any(char.isalpha() for char in word)]


def piece(text: str, lang: str, words: int, rng: random.Random) -> str:
    """A run of `words` units of `text`, all of them where there are no more."""
    parts = units(text, lang)
    start = rng.randrange(max(1, len(parts) - words + 1))
    return ("" if lang in UNSPACED else " ").join(parts[start : start + words])


def pieces(
    texts: Sequence[str], langs: Sequence[str], words: int, seed: int = SEED
) -> list[tuple[int, str]]:
    """One piece of each text that has at least `words` units, with the text's number."""
    cut = []
    for number, (text, lang) in enumerate(zip(texts, langs, strict=True)):
        if len(units(text, lang)) >= words:
            cut.append(
                (number, piece(text, lang, words, random.Random(f"{seed} {words} {number}")))
            )
    return cut
