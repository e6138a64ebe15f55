"""Terms are found however they are disguised, where they stand, and never where they are allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.policy.folding import fold, fold_with_origins
from stream.policy.words import TermError, WordIndex, WordList

INDEX = WordIndex(
    {
        "bad": WordList(
            "bad",
            ["muppet", "clot", "dolt*", "w?lly", "f*ckle", "silly goose", "дурень", "傻瓜", "bell", "god", "मूर्ख", "*brain"],
            ["clot cream", "muppet show", "bell tower"],
        ),
        "exact": WordList("exact", ["Clot"], fold=False),
    }
)  # fmt: skip


def found(text: str) -> list[str]:
    """What of the text the list `bad` finds."""
    return [text[hit.start : hit.end] for hit in INDEX.hits(text).get("bad", [])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You muppet!", ["muppet"]),
        ("@muppet #muppet muppet_x", ["muppet", "muppet", "muppet"]),
        ("muppets supermuppet", []),
        (
            "Mûppét ＭＵＰＰＥＴ 𝓶𝓾𝓹𝓹𝓮𝓽 мuрреt ⓜⓤⓟⓟⓔⓣ",
            ["Mûppét", "ＭＵＰＰＥＴ", "𝓶𝓾𝓹𝓹𝓮𝓽", "мuрреt", "ⓜⓤⓟⓟⓔⓣ"],
        ),
        ("m\u200bup\u00adpet", ["m\u200bup\u00adpet"]),
        ("cl0t ¢ c|ot", ["cl0t", "c|ot"]),
        ("be11 and b3ll", ["be11", "b3ll"]),
        ("m u p p e t", ["m u p p e t"]),
        ("u r a m.u.p.p.e.t ok", ["m.u.p.p.e.t"]),
        ("mup-pet, mup*pet", ["mup-pet", "mup*pet"]),
        ("muuuuppet muppetttt", ["muuuuppet", "muppetttt"]),
        ("mupet", []),
        ("good god goood", ["god", "goood"]),
        ("bel bell bellll", ["bell", "bellll"]),
        ("doltish dolt adolt", ["doltish", "dolt"]),
        ("willy wolly wly", ["willy", "wolly"]),
        ("fickle f**ckle", ["fickle", "f**ckle"]),
        ("birdbrain and brains", ["birdbrain"]),
        ("silly   goose, silly\ngoose", ["silly   goose", "silly\ngoose"]),
        ("ты дурень", ["дурень"]),
        ("д у р е н ь", ["д у р е н ь"]),
        ("你这个傻瓜啊", ["傻瓜"]),
        ("मूर्ख मूर्खता", ["मूर्ख"]),
        ("clot cream, CL0T CREAM and a clot", ["clot"]),
        ("the muppet show is on, muppet", ["muppet"]),
        ("", []),
    ],
)
def test_terms_are_found_where_they_stand(text: str, expected: list[str]) -> None:
    assert found(text) == expected


def test_numbers_are_no_words() -> None:
    index = WordIndex({"x": WordList("x", ["ass", "sos"])})
    assert index.hits("455 505 $05") == {}
    assert [h.term for h in index.hits("a55 s0s")["x"]] == ["ass", "sos"]


def test_a_list_that_does_not_fold_takes_letters_as_they_are() -> None:
    assert "exact" in INDEX.hits("a CLOT")
    assert "exact" not in INDEX.hits("a cl0t c l o t clööt clót")


@pytest.mark.parametrize("term", ["*", "a", "!!", "aaa", "? *"])
def test_terms_that_cannot_be_looked_for(term: str) -> None:
    with pytest.raises(TermError):
        WordIndex({"x": WordList("x", [term])})


WORDS = st.sampled_from(
    ["ok", "the", "muppet", "clot", "show", "cream", "a55", "m u p", "é", "😀", "tower", "b€ll"]
)
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=8).map(" ".join)


@given(TEXTS, TEXTS)
def test_nothing_is_found_within_what_is_allowed(before: str, after: str) -> None:
    text = f"{before} muppet show {after}"
    begin, end = len(before) + 1, len(before) + 1 + len("muppet show")
    for hit in INDEX.hits(text).get("bad", []):
        assert not (begin <= hit.start and hit.end <= end)


@given(TEXTS, TEXTS)
def test_an_allowed_term_elsewhere_hides_nothing(before: str, after: str) -> None:
    text = f"{before} . dolt . {after} muppet show"
    place = len(before) + 3
    hits = INDEX.hits(text).get("bad", [])
    assert any(hit.start <= place and hit.end >= place + 4 for hit in hits)


@given(st.text())
def test_every_folded_character_knows_where_it_came_from(text: str) -> None:
    folded, origins = fold_with_origins(text)
    assert folded == fold(text)
    assert len(folded) == len(origins)
    assert origins == sorted(origins)
    assert all(0 <= origin < len(text) for origin in origins)


@given(st.text())
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_hits_lie_in_the_text_and_never_fail(text: str) -> None:
    for hits in INDEX.hits(text + " muppet").values():
        for hit in hits:
            assert 0 <= hit.start < hit.end <= len(text) + 7


def test_a_text_that_is_one_word_a_thousand_times() -> None:
    text = "dolt muppet show " * 1000
    assert len(found(text)) == 1000
