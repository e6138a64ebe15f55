"""What a text is about, in several scripts, and that no text gives more than is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.aggregates import terms
from stream.aggregates.stopwords import stop_words
from stream.aggregates.terms import domains_of, host_of, tag_name, tags_of, terms_of


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The update BROKE my app, and the app is slow", "en", ["update", "broke", "app", "slow"]),
        ("see https://tide.example/a?b=c www.tide.example tide.example/x", "en", []),
        ("@sam @sam.tide.example mail sam@tide.example #flood", "en", ["mail"]),
        ("l'été à Paris, c'était génial ❤️👍🏽", "fr", ["paris", "génial"]),
        ("Die Flut kommt nicht", "de", ["flut", "kommt"]),
        ("die", "en", ["die"]),
        ("वह किताबें पढ़ता है", "hi", ["किताबें", "पढ़ता"]),
        ("می‌خواهم کتاب", "fa", ["می\u200cخواهم", "کتاب"]),
        ("今天的天气", "zh", ["今天", "天气"]),
        ("東京タワーに行きました", "ja", ["東京", "タワー"]),
        ("วันนี้ อากาศดี", "th", ["วันนี้", "อากาศดี"]),
        ("𝓗𝓮𝓵𝓵𝓸 ＦＬＯＯＤ", "en", ["hello", "flood"]),
        ("x_y snake_case 12345 a1b2", "en", ["snake", "case", "a1b2"]),
        ("", "en", []),
    ],
)
def test_terms(text: str, language: str, expected: list[str]) -> None:
    assert terms_of(text, language) == expected


def test_a_post_counts_once_per_term() -> None:
    assert terms_of("flood flood FLOOD", "en") == ["flood"]


def test_an_unknown_language_is_filtered_by_every_list() -> None:
    assert terms_of("the und para flood", None) == ["flood"]
    assert stop_words("xx") >= stop_words("en") | stop_words("de")
    assert stop_words("pt-BR") == stop_words("pt")
    assert stop_words("nb") == stop_words("no")


def test_tags_are_folded_and_come_once() -> None:
    assert tags_of(["#Flood", "ＦＬＯＯＤ", "tide"], "more #flood #Gate ＃港 #1 a#b") == [
        "flood",
        "tide",
        "gate",
        "港",
    ]
    assert tag_name(" # ") == ""
    assert tag_name("a\u202eb\n") == "ab"


def test_domains_of_links_and_text() -> None:
    found = domains_of(
        ["https://www.Tide.example/a", "gate.example", "nonsense"],
        "see http://user:pw@harbour.example:8080/x, HTTPS://tide.example.",
    )
    assert found == ["tide.example", "gate.example", "harbour.example"]


@pytest.mark.parametrize(
    ("link", "host"),
    [
        ("https://bücher.example/x", "xn--bcher-kva.example"),
        ("https://[::1]/", None),
        ("https://[bad/", None),
        ("https://10.0.0.1/", None),
        ("mailto:a@b", None),
        ("https://" + "a" * 300 + ".example", None),
        ("https://localhost/", None),
    ],
)
def test_a_host_is_a_name_or_nothing(link: str, host: str | None) -> None:
    assert host_of(link) == host


@given(st.text(max_size=3000), st.sampled_from(["en", "zh", "ja", None]))
@settings(max_examples=150, deadline=None)
def test_whatever_the_text_what_comes_out_is_bounded(text: str, language: str | None) -> None:
    words = terms_of(text, language)
    assert len(words) == len(set(words)) <= terms.MOST_TERMS
    assert all(0 < len(word) <= 30 and word == word.strip() for word in words)
    tags = tags_of([text, text[:50]], f"#{text}")
    assert len(tags) == len(set(tags)) <= terms.MOST_TAGS
    assert all(tag.isprintable() and len(tag) <= 64 for tag in tags)
    assert len(domains_of([text], f"https://{text}")) <= terms.MOST_DOMAINS
