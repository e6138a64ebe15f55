"""The cuckoo table: what was put in is found, hardly anything else is, and the file is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ModelFileError
from models.language.vocabulary import UNKNOWN, Vocabulary, build_vocabulary


def some(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64)


@given(st.integers(0, 1000), st.integers(0, 5))
def test_what_was_put_in_is_found(count: int, seed: int) -> None:
    hashes = np.unique(some(count, seed))
    rows = build_vocabulary(hashes, 1250).rows(hashes)
    assert (rows != UNKNOWN).all()
    # Two share a row only where a fingerprint is the same by chance.
    assert len(np.unique(rows)) >= 0.97 * len(rows)


def test_what_was_not_put_in_is_hardly_ever_found() -> None:
    vocabulary = build_vocabulary(some(9000), 10_000)
    found = (vocabulary.rows(some(100_000, seed=1)) != UNKNOWN).mean()
    assert 0 < found < 0.02


def test_the_most_useful_stay_when_there_are_too_many() -> None:
    hashes = some(2000)
    vocabulary = build_vocabulary(hashes, 1000)
    rows = vocabulary.rows(hashes)
    assert (rows[:500] != UNKNOWN).mean() > (rows[1000:] != UNKNOWN).mean() + 0.5


def test_a_file_holds_it_and_is_always_the_same(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(some(90), 100)
    vocabulary.save(tmp_path / "a.npz")
    vocabulary.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = Vocabulary.load(tmp_path / "a.npz")
    assert again.rows(some(90)).tolist() == vocabulary.rows(some(90)).tolist()


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(ModelFileError, match="cannot read the n-gram vocabulary"):
        Vocabulary.load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", format=np.array("other"), fingerprints=np.zeros(3, np.uint8))
    with pytest.raises(ModelFileError, match="format `other`"):
        Vocabulary.load(tmp_path / "y.npz")
