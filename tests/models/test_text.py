"""What the scorer does to a text before the tokenizer sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text import CHARS_PER_TOKEN, clean, cut

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_a_cleaned_text_can_be_encoded_and_has_no_nul(text: str) -> None:
    cleaned, changed = clean(text)
    assert "\0" not in cleaned.encode().decode()
    assert changed == (cleaned != text)


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once, _ = clean(text)
    assert clean(once) == (once, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("calm\0sea", "calm\ufffdsea"),
        ("calm \ud800 sea", "calm \ufffd sea"),
        ("\udc00\0", "\ufffd\ufffd"),
        ("wave \ud83c\udf0a", "wave 🌊"),
    ],
    ids=["nul", "lone surrogate", "both", "a pair is one character"],
)
def test_what_no_tokenizer_can_read_is_replaced(text: str, expected: str) -> None:
    assert clean(text) == (expected, True)


@given(st.text(max_size=300), st.integers(1, 12))
def test_a_cut_text_is_the_beginning_of_the_text(text: str, max_tokens: int) -> None:
    part, was_cut = cut(text, max_tokens)
    assert text.startswith(part)
    assert was_cut == (len(text) > max_tokens * CHARS_PER_TOKEN) == (part != text)
