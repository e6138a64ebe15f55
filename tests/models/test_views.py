"""The second view: what hides a word is undone, and ordinary writing has no second view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import load_manifest
from models.scorer import OnnxScorer
from models.views import second_view


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("you are an i d i o t", "you are an idiot"),
        ("s.t.u.p.i.d clown", "stupid clown"),
        ("you stuuuupid 1d10t", "you stupid idiot"),
        ("ѕtuріd fool", "stupid fool"),
        ("such a j3rk, a l0ser and $h1t", "such a jerk, a loser and shit"),
        ("idi\u200bot", "idiot"),
        ("i̷̴d̸̶i̵̷o̶̷t̴̷", "idiot"),
        ("a pain in the a$$", "a pain in the ass"),
    ],
)
def test_disguises(text: str, view: str) -> None:
    assert second_view(text) == view


@pytest.mark.parametrize(
    "text",
    [
        "See you at 10:30, platform 4, the 2nd door. 4th of May, 50% off, $100!",
        "covid19, h1n1, mp3s and the b2b market in 2026",
        "http://example.org/a1b2c3 @na1me #l33t mail me: p3ter@example.org",
        "U.S.A. and e.g. a or b",
        "Grüße aus München, ça va très bien, señor",
        "привет, как дела?",
        "می‌خواهم این کتاب را بخوانم",
        "Tシャツを買った",
        "今日はとても寒いですね",
        "👩‍👩‍👧 family day 🏳️‍🌈",
        "Tiếng Việt có nhiều dấu",
    ],
)
def test_ordinary_writing_is_left_alone(text: str) -> None:
    assert second_view(text) is text or second_view(text) == text


@given(st.text(max_size=200))
def test_any_text_has_a_view(text: str) -> None:
    view = second_view(text)
    assert isinstance(view, str)
    assert len(view) <= 4 * len(text) + 4


def test_a_disguised_insult_scores_higher_with_views_and_the_original_is_kept(
    bundled_scorer: OnnxScorer,
) -> None:
    views = OnnxScorer(load_manifest(), "compact", device="cpu", second_views=True)
    texts = ["you are an i d i o t and a l0ser", "what a calm sea today"]
    plain, with_views = bundled_scorer.score(texts), views.score(texts)
    before, after = (s[0].tasks["toxicity"].scores for s in (plain, with_views))
    assert all(after[label] >= before[label] for label in before)
    assert after["toxic"] > before["toxic"] + 0.1
    assert with_views[0].tasks["sentiment"] == plain[0].tasks["sentiment"]
    assert with_views[1] == plain[1]
