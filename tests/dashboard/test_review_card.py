"""What the browser gets of a post under review; breaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashboard.review_card import reasons, spans
from dashboard.review_stretch import (
    PAUSE_MS,
    REMIND_AFTER_MS,
    REMIND_AFTER_POSTS,
    ReviewStretch,
)
from stream.outcomes import Action, RuleMatch, TextSpan


def match(
    rule: str, *places: tuple[int, int], mode: str = "live", reason: str = "other"
) -> RuleMatch:
    return RuleMatch(
        id=rule,
        version="1",
        mode=mode,  # type: ignore[arg-type]
        action=Action.REVIEW,
        severity="high",
        reason=reason,
        spans=[TextSpan(start=a, end=b, utf16_start=a, utf16_end=b) for a, b in places],
    )


@given(
    st.lists(st.tuples(st.integers(-3, 60), st.integers(-3, 60)), max_size=8), st.integers(0, 50)
)
def test_marks_are_in_order_inside_and_apart(places: list[tuple[int, int]], length: int) -> None:
    marked = spans([match("a", *places), match("b", *places[:3])], length)
    end = 0
    for each in marked:
        assert end <= each["start"] < each["end"] <= length
        end = each["end"]
    covered = {n for each in marked for n in range(each["start"], each["end"])}
    wanted = {n for a, b in places if 0 <= a < b <= length for n in range(a, b)}
    assert covered == wanted


def test_the_reasons_of_the_live_rules_come_first() -> None:
    found = [
        each["code"]
        for each in reasons(
            [
                match("s", mode="shadow", reason="misleading-spam"),
                match("l", reason="violence-threats"),
            ]
        )
    ]
    assert found[:2] == ["violence-threats", "misleading-spam"]
    assert found[2].startswith(("violence-", "misleading-"))
    assert len(found) == len(set(found)) > 30
    assert "appeal" not in found


def test_a_reminder_comes_by_time_or_by_posts_and_a_pause_ends_the_stretch() -> None:
    stretch = ReviewStretch(0, 0)
    assert not stretch.due(REMIND_AFTER_MS - 1)
    assert stretch.due(REMIND_AFTER_MS)
    busy = stretch
    for n in range(REMIND_AFTER_POSTS):
        assert not busy.due(n)
        busy = busy.reviewed(n)
    assert busy.due(busy.last_ms)
    later = busy.later(busy.last_ms)
    assert not later.due(later.last_ms)
    assert later.due(REMIND_AFTER_MS * 2)
    rested = later.at(later.last_ms + PAUSE_MS)
    assert (rested.posts, rested.began_ms) == (0, later.last_ms + PAUSE_MS)
