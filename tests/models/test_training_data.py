"""Reading the task files and drawing rows: what trains, how often, in which form."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.errors import ModelBuildError
from models.training.base import cut_tokenizer, layers_to_keep, pieces_to_keep
from models.training.data import Row, cap_sources, draw_epochs, find_part, read_task
from tests.models.bert_graph import WORDS, write_tokenizer


def rows(count: int, source: str = "a") -> list[Row]:
    return [Row("sentiment", f"{source}{i}", source, "en", 0) for i in range(count)]


def test_rows_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "toxicity.dev.tsv").write_text(
        "source\tlang\ttoxic\tinsult\ttext\n"
        "a\ten\t1\t-1\tknown in part\n"
        "a\ten\t-1\t-1\tnot known\n"
        'b\tde\t0\t1\t"quotes" stay "as they are\n',
        "utf-8",
    )
    data = read_task(tmp_path, "toxicity", "dev", ["toxic", "insult"])
    assert [(row.text, row.target) for row in data.rows] == [
        ("known in part", (1, -1)),
        ('"quotes" stay "as they are', (0, 1)),
    ]


def test_languages_are_learnt_from_the_file(tmp_path: Path) -> None:
    lines = ["source\tlang\ttext", *["t\ten\tsea"] * 3, "t\tfr\tmer", *["t\tde\tMeer"] * 2]
    with gzip.open(tmp_path / "language.train.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(lines))
    data = read_task(tmp_path, "language", "train")
    assert data.labels == ["de", "en", "fr"]
    assert [row.target for row in data.rows] == [1, 1, 1, 2, 0, 0]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelBuildError, match=r"no `sentiment\.train\.tsv` or `\.tsv\.gz`"):
        find_part(tmp_path, "sentiment", "train")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_a_cap_holds_for_its_source_only(first: int, second: int, cap: int) -> None:
    kept = cap_sources([*rows(first, "a"), *rows(second, "b")], {"a": cap}, random.Random(0))
    assert sum(row.source == "a" for row in kept) == min(first, cap)
    assert sum(row.source == "b" for row in kept) == second
    assert len({row.text for row in kept}) == len(kept)


@given(st.integers(1, 30), st.floats(0, 3))
def test_epochs_repeat_every_row_as_often_as_they_say(count: int, epochs: float) -> None:
    drawn = draw_epochs(rows(count), epochs, random.Random(0))
    times = [sum(row.text == f"a{i}" for row in drawn) for i in range(count)]
    assert all(int(epochs) <= n <= int(epochs) + 1 for n in times)
    assert sum(times) == int(epochs) * count + round((epochs - int(epochs)) * count)


@given(st.integers(1, 24), st.integers(1, 24))
def test_kept_layers_are_spread_over_all(available: int, wanted: int) -> None:
    if wanted > available:
        with pytest.raises(ModelBuildError, match="cannot keep"):
            layers_to_keep(available, wanted)
        return
    kept = layers_to_keep(available, wanted)
    assert len(set(kept)) == wanted
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert wanted == 1 or kept[-1] == available - 1


def test_a_cut_tokenizer_gives_the_same_pieces(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    used = ["the sea is calm", "das meer ist ruhig"]
    keep = pieces_to_keep(tokenizer, used * 3, 12)
    small = cut_tokenizer(tokenizer, keep)
    assert small.get_vocab_size() == len(keep) < tokenizer.get_vocab_size()
    for text in used:
        assert small.encode(text).tokens == tokenizer.encode(text).tokens
    for name in ("<s>", "</s>", "<pad>", "<unk>"):
        assert small.token_to_id(name) is not None
    # What is not kept is still spelt out, letter by letter.
    unkept = next(word for word in WORDS if f"▁{word}" not in small.get_vocab())
    assert small.token_to_id("<unk>") not in small.encode(unkept).ids
    assert Tokenizer.from_str(small.to_str()).encode(used[0]).ids == small.encode(used[0]).ids
