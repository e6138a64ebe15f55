"""Letters that are no language: mashed keys, random letters, endless syllables.

The language model learns to answer `und` to them, and is measured on others of the kind.
"""

from __future__ import annotations

import random
from typing import Final

_ALPHABETS: Final = (
    "abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwxz", "asdfghjkl", "qwertyuiop", "zxcvbnm",
    "asdfjkl", "абвгдежзийклмнопрстуфхцчшщъыьэюя", "фывапролджэ", "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "αβγδεζηθικλμνξοπρστυφχψω",
)  # fmt: skip


def gibberish(rng: random.Random) -> str:
    """One to five words of random letters."""
    return " ".join(_word(rng) for _ in range(rng.choice((1, 1, 1, 2, 3, 5))))


def _word(rng: random.Random) -> str:
    kind = rng.random()
    alphabet = rng.choice(_ALPHABETS) if kind < 0.6 else _ALPHABETS[0]
    if kind > 0.9:
        return "".join(rng.choices(alphabet, k=rng.randint(2, 3))) * rng.randint(2, 5)
    return "".join(rng.choices(alphabet, k=rng.randint(4, 14)))
