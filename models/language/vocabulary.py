"""Which n-grams the language model knows, as one byte each: a cuckoo table of fingerprints.

Invariant: `rows` and `build` agree on where a hash may lie. A hash that was not put in is taken for
one that was in about one case of a hundred, always for the same one; nothing else is approximate.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelFileError
from models.language.ngrams import Hashes

#: Places a hash may lie in: with three, nine slots of ten can be filled.
CHOICES: Final = 3
#: Version of hashing and table: a file of another one cannot be read with this code.
FORMAT: Final = "tidegate.ngrams.v1"
#: Row of the n-grams that are not known; the graph gives it no weight.
UNKNOWN: Final = -1
_ROUNDS = 400
_HIGH = np.uint64(32)
_LOW_BITS = np.uint64(0xFFFFFFFF)
_THIRD = np.uint64(0xD6E8FEB86659FD93)
_STALE = np.uint8(0)

Rows = NDArray[np.int32]


class Vocabulary:
    """Hash to row of the table of vectors, or `UNKNOWN`.

    Args:
        fingerprints: one byte a slot, 0 for an empty one. The slot's number is the row.
    """

    def __init__(self, fingerprints: NDArray[np.uint8]) -> None:
        self.fingerprints = fingerprints

    def __len__(self) -> int:
        """Slots, full or empty."""
        return len(self.fingerprints)

    def rows(self, hashes: Hashes) -> Rows:
        """The row of each hash."""
        prints = _fingerprints(hashes)
        first = _slots(hashes, 0, len(self))
        rows = np.where(self.fingerprints[first] == prints, first, UNKNOWN).astype(np.int32)
        for choice in range(1, CHOICES):
            missing = np.flatnonzero(rows < 0)
            slots = _slots(hashes[missing], choice, len(self))
            found = self.fingerprints[slots] == prints[missing]
            rows[missing[found]] = slots[found]
        return rows

    def save(self, path: Path) -> None:
        """Write the file that `load` reads; equal vocabularies make equal files."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, array in (
                ("format", np.array(FORMAT)),
                ("fingerprints", self.fingerprints),
            ):
                member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(member, "w") as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """The vocabulary in a file.

        Raises:
            ModelFileError: it is no such file, or one for another version of the hashing.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = str(arrays["format"])
                fingerprints = arrays["fingerprints"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
            raise ModelFileError(
                f"cannot read the n-gram vocabulary: {exc}",
                where=str(path),
                hint="`tidegate models verify` checks the files",
            ) from exc
        if found != FORMAT or fingerprints.dtype != np.uint8 or fingerprints.ndim != 1:
            raise ModelFileError(
                f"the n-gram vocabulary has the format `{found}`, this version reads `{FORMAT}`",
                where=str(path),
                hint="use the files that came with this version of Tidegate",
            )
        return cls(fingerprints)


def build_vocabulary(hashes: Hashes, slots: int) -> Vocabulary:
    """A table of `slots` for distinct `hashes`, the most useful first; the last may find no place.

    Cuckoo hashing (Pagh and Rodler 2004), all hashes at once: each round everybody without a place
    takes the next of its own, whoever sat there moves on.
    """
    hashes = hashes[:slots]
    places = np.stack([_slots(hashes, choice, slots) for choice in range(CHOICES)])
    owner = np.full(slots, -1, dtype=np.int64)
    turn = np.zeros(len(hashes), dtype=np.int64)
    # Written last is written over: the most useful go last.
    waiting = np.arange(len(hashes))[::-1]
    for _ in range(_ROUNDS):
        if not len(waiting):
            break
        at = places[turn[waiting], waiting]
        before = owner[at]
        owner[at] = waiting
        pushed = np.unique(before[before >= 0])
        lost = waiting[owner[at] != waiting]
        waiting = np.sort(np.concatenate([pushed, lost]))[::-1]
        turn[waiting] = (turn[waiting] + 1) % CHOICES
    full = owner >= 0
    fingerprints = np.full(slots, _STALE, dtype=np.uint8)
    fingerprints[full] = _fingerprints(hashes[owner[full]])
    return Vocabulary(fingerprints)


def _slots(hashes: Hashes, choice: int, slots: int) -> NDArray[np.int64]:
    """The slot of each hash by its `choice`-th 32 bits (Lemire's multiply and shift)."""
    if choice == 0:
        bits = hashes & _LOW_BITS
    elif choice == 1:
        bits = hashes >> _HIGH
    else:
        bits = (hashes * _THIRD) >> _HIGH
    return ((bits * np.uint64(slots)) >> _HIGH).astype(np.int64)


def _fingerprints(hashes: Hashes) -> NDArray[np.uint8]:
    """1 to 255 for each hash, from bits that its slots hardly depend on."""
    bits = ((hashes ^ (hashes >> np.uint64(29))) * _THIRD) >> np.uint64(20)
    prints: NDArray[np.uint8] = (bits % np.uint64(255) + np.uint64(1)).astype(np.uint8)
    return prints
