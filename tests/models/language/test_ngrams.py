"""What an n-gram is, and that a text's own do not depend on its company."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.language.ngrams import LONGEST, MAX_CHARS, letters, ngrams

TEXTS = st.lists(st.text(max_size=60), max_size=8)


def read(text: str) -> str:
    """The letters of one text, as they are read."""
    return letters([text]).tobytes().decode("utf-32-le").removesuffix("\n").strip()


def hashes(text: str) -> list[int]:
    return sorted(ngrams([text]).hashes.tolist())


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Hello, World!", "hello world"),
        ("see https://example.org/a?b or www.example.org", "see or"),
        ("@someone.bsky mail me@example.org", "mail"),
        ("2 + 2 = 4 🎉", ""),
        ("It's 'fine' rock'n'roll", "it's fine rock'n'roll"),
        ("it’s", "it's"),
        ("soooooo goooood", "soo good"),
        ("ﬁne Ｆｕｌｌ", "fine full"),
        ("zero\u200bwidth so\u00adft", "zerowidth soft"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("a\nb\tc", "a b c"),
        ("", ""),
    ],
)
def test_only_letters_are_read(text: str, seen: str) -> None:
    assert read(text) == seen


def test_a_word_gives_its_ngrams_and_itself() -> None:
    # " abcdef " has 6 letters, 7 pairs, 6, 5 and 4 longer n-grams, and is longer than the longest.
    assert len(hashes("abcdef")) == 6 + 7 + 6 + 5 + 4 + 1
    # " ab " is an n-gram of 4 already.
    assert len(hashes("ab")) == 2 + 3 + 2 + 1
    assert LONGEST == 5


def test_words_are_taken_one_by_one() -> None:
    assert hashes("good morning") == sorted(hashes("good") + hashes("morning"))
    assert set(hashes("ab")) & set(hashes("abc")) >= set(hashes("a")[:0])
    assert hashes("Good") == hashes("good")
    assert hashes("dog") != hashes("god")


@given(TEXTS)
def test_a_text_gives_the_same_in_any_company(texts: list[str]) -> None:
    together = ngrams(texts)
    for number, text in enumerate(texts):
        assert together.hashes[together.texts == number].tolist() == ngrams([text]).hashes.tolist()


@given(st.text(max_size=400))
def test_a_long_text_costs_no_more_than_its_beginning(text: str) -> None:
    assert len(ngrams([text]).hashes) <= (LONGEST + 1) * (MAX_CHARS + 2)


def test_lone_surrogates_are_no_error() -> None:
    assert hashes("good\ud800") == hashes("good")


def test_no_texts() -> None:
    assert ngrams([]).hashes.size == 0
    assert ngrams(["", "!"]).texts.tolist() == []
    assert ngrams(["", "", "x"]).texts.tolist() == [2, 2, 2, 2]
    assert ngrams(["x"]).hashes.dtype == np.uint64
