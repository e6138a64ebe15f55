"""Windows against a count by hand, over whatever order posts come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.decisions import history as module
from stream.decisions.history import WindowHistory
from stream.outcomes import Action
from stream.policy import Subject, Window
from tests.stream.decisions.labels import NOON_MS, label_of

WINDOWS = (
    Window("count", "author", 60),
    Window("count", "tag", 30),
    Window("distinct_authors", "tag", 20),
    Window("actions", "author", 60),
)


def subject(number: int, **values: object) -> Subject:
    return Subject.of_label(label_of(number, **values))  # type: ignore[arg-type]


posts = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from("abc"), st.sampled_from(["", "x", "y"])),
    min_size=1,
    max_size=80,
)


@given(posts)
def test_windows_equal_a_count_by_hand(made: list[tuple[int, str, str]]) -> None:
    """Posts in any order of time, and each of them seen as its own window ends."""
    history = WindowHistory(WINDOWS)
    before: list[tuple[int, str, str]] = []
    for number, (second, author, tag) in enumerate(made):
        at = history.at(
            subject(
                number,
                author=author,
                tags=[tag] if tag else [],
                at_ms=NOON_MS + second * 1000,
            )
        )
        before.append((second, author, tag))
        by_author = [s for s, a, _ in before if a == author and second - 60 < s <= second]
        assert at.count("author", author, 60) == len(by_author)
        if tag:
            within = [(s, a) for s, a, t in before if t == tag and s <= second]
            assert at.count("tag", tag, 30) == sum(s > second - 30 for s, _ in within)
            assert at.distinct_authors("tag", tag, 20) == len(
                {a for s, a in within if s > second - 20}
            )


@given(posts)
def test_posts_read_again_count_once(made: list[tuple[int, str, str]]) -> None:
    once, twice = WindowHistory(WINDOWS), WindowHistory(WINDOWS)
    subjects = [
        subject(n, author=a, tags=[t] if t else [], at_ms=NOON_MS + s * 1000)
        for n, (s, a, t) in enumerate(made)
    ]
    for each in subjects:
        once.at(each)
        twice.at(each)
        twice.at(each)
    for each in subjects:
        author = each.author_id or ""
        assert once.at(each).count("author", author, 60) == twice.at(each).count(
            "author", author, 60
        )


def test_actions_are_those_against_earlier_posts_of_the_author() -> None:
    history = WindowHistory(WINDOWS)
    for number, action in enumerate((Action.FLAG, Action.ALLOW, Action.HIDE)):
        post = subject(number)
        history.at(post)
        history.acted(post.post_id, "ann", post.at_ms, action)
    assert history.at(subject(3)).actions("ann", 60) == 2
    assert history.at(subject(2)).actions("ann", 60) == 1, "not the post itself"
    assert history.at(subject(62)).actions("ann", 60) == 0, "a window ends"
    history.acted("p0-0", "ann", NOON_MS, Action.ALLOW)
    assert history.at(subject(3)).actions("ann", 60) == 1, "a decision that was taken back"


def test_keys_and_posts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 50)
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    monkeypatch.setattr(module, "MAX_PER_KEY", 20)
    history = WindowHistory(WINDOWS)
    for number in range(1000):
        history.at(subject(number, author=f"a{number}", tags=["x"], at_ms=NOON_MS + number))
    assert len(history._series["author"]) <= 50
    assert len(history._seen) <= 101
    series = history.series("tag", "x")
    assert series is not None
    assert len(series.times) <= 20 + 256 + 1


def test_without_windows_nothing_is_kept() -> None:
    history = WindowHistory(())
    history.at(subject(1))
    assert not history._seen
    assert history.longest_ms == 0


def test_a_partition_that_is_ahead_forgets_nothing_of_one_that_is_behind() -> None:
    """After an outage one partition may be read to its end before another begins."""
    history = WindowHistory(WINDOWS)
    for number in range(1000):
        ahead = subject(number, author=f"a{number % 10}", tags=["x"], at_ms=NOON_MS + 1000 * number)
        history.at(ahead, 1)
        if number % 5 == 0:
            late = subject(
                number, partition=2, author="late", tags=["x"], at_ms=NOON_MS + 200 * number
            )
            seen = history.at(late, 2)
    # The last of 200 posts a second apart, while the other partition is 800 s further.
    assert seen.count("author", "late", 60) == 60
    assert seen.count("tag", "x", 30) == 60
    assert seen.distinct_authors("tag", "x", 20) == 11
