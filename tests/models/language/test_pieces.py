"""Pieces are runs of words, or of letters, and the same each time."""

from __future__ import annotations

import random

import pytest

from models.language.pieces import piece, pieces, units


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("Well, 2 + 2 is four.", "en", ["Well,", "is", "four."]),
        ("今天 很好。", "zh", ["今", "天", "很", "好"]),
        ("12 34", "en", []),
    ],
)
def test_units(text: str, lang: str, expected: list[str]) -> None:
    assert units(text, lang) == expected


def test_a_piece_is_a_run() -> None:
    text = "one two three four five"
    seen = {piece(text, "en", 3, random.Random(seed)) for seed in range(50)}
    assert seen == {"one two three", "two three four", "three four five"}
    assert piece(text, "en", 9, random.Random(0)) == text
    assert piece("你好吗", "zh", 2, random.Random(0)) in {"你好", "好吗"}


def test_pieces_are_the_same_each_time_and_only_of_texts_long_enough() -> None:
    texts, langs = ["one two three four", "one", "你好吗"], ["en", "en", "zh"]
    cut = pieces(texts, langs, 3)
    assert cut == pieces(texts, langs, 3)
    assert [number for number, _ in cut] == [0, 2]
    # A text's piece does not depend on the texts before it having been cut.
    assert pieces(["", *texts[1:]], ["en", *langs[1:]], 3) == cut[1:]
