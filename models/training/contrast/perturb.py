"""Spell a sentence as people do who hurry, shout or hide from a filter; the meaning stays.

Invariant: what is done does not depend on the labels, so no spelling is a sign of an attack.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

_LEET: Final = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "b": "8", "g": "9"}
_EMOJI: Final = ("😂", "🤔", "🙄", "👍", "😡", "😊", "🔥", "🙏", "💯", "😢", "👀", "🤷", "❤️", "🤦")


def _a_word(words: Sequence[str], rng: random.Random, least: int) -> int | None:
    fit = [i for i, word in enumerate(words) if len(word) >= least and word.isalpha()]
    return rng.choice(fit) if fit else None


def _on_a_word(text: str, rng: random.Random, change: Callable[[str], str], least: int = 4) -> str:
    words = text.split(" ")
    for _ in range(rng.choice((1, 1, 2))):
        i = _a_word(words, rng, least)
        if i is not None:
            words[i] = change(words[i])
    return " ".join(words)


def leet(text: str, rng: random.Random) -> str:
    """Digits and signs for letters."""

    def change(word: str) -> str:
        return "".join(
            rng.choice(_LEET[c.lower()]) if c.lower() in _LEET and rng.random() < 0.7 else c
            for c in word
        )

    return _on_a_word(text, rng, change)


def spaced(text: str, rng: random.Random) -> str:
    """One or two words with something between their letters."""
    between = rng.choice((" ", " ", ".", "-", "*", "_"))
    return _on_a_word(text, rng, between.join)


def dropped(text: str, rng: random.Random) -> str:
    """A letter is missing."""

    def change(word: str) -> str:
        i = rng.randrange(1, len(word))
        return word[:i] + word[i + 1 :]

    return _on_a_word(text, rng, change)


def swapped(text: str, rng: random.Random) -> str:
    """Two letters in the wrong order."""

    def change(word: str) -> str:
        i = rng.randrange(len(word) - 1)
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]

    return _on_a_word(text, rng, change)


def repeated(text: str, rng: random.Random) -> str:
    """A letter drawn out."""

    def change(word: str) -> str:
        i = rng.randrange(len(word))
        return word[:i] + word[i] * rng.randint(2, 5) + word[i + 1 :]

    return _on_a_word(text, rng, change)


def joined(text: str, rng: random.Random) -> str:
    """A space is missing."""
    gaps = [i for i, char in enumerate(text) if char == " "]
    if not gaps:
        return text
    i = rng.choice(gaps)
    return text[:i] + text[i + 1 :]


def starred(text: str, rng: random.Random) -> str:
    """A letter hidden by an asterisk."""

    def change(word: str) -> str:
        i = rng.randrange(1, len(word) - 1)
        return word[:i] + "*" + word[i + 1 :]

    return _on_a_word(text, rng, change)


def shouted(text: str, rng: random.Random) -> str:
    """Capitals, at times with more of them than needed at the end."""
    return text.upper() + rng.choice(("", "!!", "!!!"))


def with_emoji(text: str, rng: random.Random) -> str:
    """Emoji behind the sentence."""
    return f"{text} {''.join(rng.choices(_EMOJI, k=rng.randint(1, 3)))}"


def unpunctuated(text: str, _rng: random.Random) -> str:
    """Only letters and spaces."""
    return "".join(c for c in text if c.isalnum() or c.isspace() or ord(c) > 0x2FF)


def hashtagged(text: str, rng: random.Random) -> str:
    """A word as a hashtag."""
    return _on_a_word(text, rng, lambda word: f"#{word}")


def lowered(text: str, _rng: random.Random) -> str:
    """No capitals and no stop."""
    return text.lower().rstrip(".。।")


_ANY: Final = (with_emoji, repeated, hashtagged, dropped, swapped)
_CASED: Final = (*_ANY, leet, leet, spaced, spaced, joined, shouted, starred, unpunctuated, lowered)
_UNSPACED: Final = (with_emoji,)


def perturb(text: str, rng: random.Random, *, cased: bool) -> str:
    """One of the ways above that the script has."""
    ways: Sequence[Callable[[str, random.Random], str]] = _CASED if cased else _ANY
    if " " not in text:
        ways = _UNSPACED
    return rng.choice(ways)(text, rng)
