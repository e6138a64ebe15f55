"""Turns texts into the hashes of their n-grams, a whole batch at once, with NumPy alone.

Invariant: a text's hashes depend on its letters alone; case, digits, links, handles, emoji and
punctuation are gone before anything is hashed. A text without letters has no hashes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Characters n-grams have at most; the space before and after a word counts as one.
LONGEST: Final = 5
#: Letters of a text that are read, counted after links and handles are gone. A language is known
#: by then, and the cost of a long post stays that of a sentence.
MAX_CHARS: Final = 200
#: Characters looked at for links and handles before the text is cut to `MAX_CHARS`.
_RAW_CHARS: Final = 1200
_LINK_OR_HANDLE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+\.\S+|(?<!\w)@\w[\w.\-]*")

_SPACE, _END, _APOSTROPHE = 32, 10, 39
_GONE = 0
# Odd multipliers: of a polynomial over code points, and of the final mixing (Steele et al. 2014,
# the constants of SplitMix64).
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

Hashes = NDArray[np.uint64]


class Ngrams(NamedTuple):
    """The n-grams of a batch: `hashes` and, beside each, the number of its text.

    The order within a text is not that of the text: by length, whole words last.
    """

    hashes: Hashes
    texts: NDArray[np.intp]


def readable(text: str) -> str:
    """The part of a text that is looked at: NFKC, lower case, without links and handles."""
    part = text[:_RAW_CHARS]
    if "@" in part or "://" in part or "www." in part:
        part = _LINK_OR_HANDLE.sub(" ", part)
    if not part.isascii():
        part = unicodedata.normalize("NFKC", part)
    return part.lower()[:MAX_CHARS].replace("\n", " ")


@cache
def _alphabet() -> NDArray[np.uint32]:
    """Code point to what is read in its place: itself for a letter, a space, or nothing at all."""
    to = np.full(0x110000, _SPACE, dtype=np.uint32)
    for code in range(0x323B0):  # beyond: no letters assigned
        kind = unicodedata.category(chr(code))
        if kind[0] in "LM":
            to[code] = code
        elif kind in ("Cf", "Cs"):
            to[code] = _GONE
    to[0xFE00:0xFE10] = _GONE  # variation selectors are marks by category
    for quote in "'’ʼ＇`´":
        to[ord(quote)] = _APOSTROPHE
    to[_END] = _END
    return to


def letters(texts: Sequence[str]) -> NDArray[np.uint32]:
    """The code points that are read, words parted by spaces, a line end behind each text.

    Three equal letters in a row and more are read as two: people write `sooooo`.
    """
    joined = "\n".join([*(readable(text) for text in texts), ""])
    raw = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes: NDArray[np.uint32] = _alphabet()[raw]
    codes = codes[codes != _GONE]
    if not len(codes):
        return codes
    separate = (codes == _SPACE) | (codes == _END) | (codes == _APOSTROPHE)
    # An apostrophe is a letter between letters only.
    inside = np.zeros(len(codes), dtype=bool)
    inside[1:-1] = ~separate[:-2] & ~separate[2:]
    codes = np.where((codes == _APOSTROPHE) & ~inside, np.uint32(_SPACE), codes)
    keep = np.ones(len(codes), dtype=bool)
    same = codes[1:] == codes[:-1]
    keep[1:] &= ~(same & (codes[1:] == _SPACE))
    keep[2:] &= ~(same[1:] & same[:-1] & (codes[2:] != _END))
    kept: NDArray[np.uint32] = codes[keep]
    return kept


def ngrams(texts: Sequence[str]) -> Ngrams:
    """All n-grams of 1 to `LONGEST` characters within words, and whole words longer than that.

    A word is taken with the space before and behind it; no n-gram reaches into the next word.
    """
    codes = letters(texts)
    # Every gap between two of these is a word, or nothing.
    ends = np.flatnonzero((codes == _SPACE) | (codes == _END))
    text_of_end = np.cumsum(codes[ends] == _END) - (codes[ends] == _END)
    starts = np.concatenate([[-1], ends[:-1]]) if len(ends) else ends
    lengths = ends - starts - 1
    words = lengths > 0
    starts, lengths, owner = starts[words], lengths[words], text_of_end[words]
    if not len(starts):
        return Ngrams(np.empty(0, np.uint64), np.empty(0, np.intp))
    # Words side by side, each between its own two spaces.
    sizes = lengths + 2
    begin = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    offset = np.arange(total) - np.repeat(begin, sizes)
    place = np.repeat(starts, sizes) + offset
    left = np.repeat(sizes, sizes) - offset
    points = np.full(total, _SPACE, dtype=np.uint64)
    inner = (offset > 0) & (left > 1)
    points[inner] = codes[place[inner]]
    text = np.repeat(owner, sizes)
    hashes = [points[inner]]
    owners = [text[inner]]
    rolling = points
    for length in range(2, LONGEST + 1):
        rolling = rolling[:-1] * _BASE + points[length - 1 :]
        fits = left[: len(rolling)] >= length
        hashes.append(rolling[fits])
        owners.append(text[: len(rolling)][fits])
    long = sizes > LONGEST
    powers = np.cumprod(np.full(int(sizes.max()), _BASE, dtype=np.uint64))
    whole = np.add.reduceat(points * powers[offset], begin)[long]
    hashes.append(whole ^ _MIX_2)
    owners.append(owner[long])
    return Ngrams(_mixed(np.concatenate(hashes)), np.concatenate(owners))


def _mixed(hashes: Hashes) -> Hashes:
    """Every bit of the input moves every bit of the result (SplitMix64's finaliser)."""
    mixed = (hashes ^ (hashes >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    result: Hashes = mixed ^ (mixed >> np.uint64(31))
    return result
