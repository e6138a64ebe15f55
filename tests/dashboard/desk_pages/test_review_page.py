"""Review: what is shown, what a key writes, and breaks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import acting, page, review_queue
from dashboard.people import Person, Role
from dashboard.review_stretch import ReviewStretch
from dashboard.writer import MemoryWriter
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open, component, everything
from tests.dashboard.test_pages import words


def test_review_shows_the_worst_and_oldest_with_its_policy(open_page: Open, database: Path) -> None:
    furnish(database, posts=0)
    test = open_page("review")
    data = component(test, "claim")
    assert data["severity"] == "high"
    assert data["post"]["text"] not in everything(test)
    rule = data["rules"][0]
    assert rule["when"]
    assert rule["description"]
    assert rule["meaning"]
    toxicity = next(group for group in data["labels"] if group["task"] == "toxicity")
    assert any(row["over"] and row["score"] >= row["threshold"] for row in toxicity["rows"])
    assert {each["key"] for each in data["actions"]}.isdisjoint({"c", "r"})
    for span in data["spans"]:
        assert 0 <= span["start"] < span["end"] <= len(data["post"]["text"])


def test_the_queue_at_its_end_says_so(open_page: Open, database: Path) -> None:
    furnish(database, posts=0, queued=[])
    said = words(open_page("review"))
    assert "The queue is empty" in said
    assert "appears here by itself" in said


def _asked(test: AppTest, **what: Any) -> None:
    """Act as the component's key would, in the page's own session, and draw again."""
    test.session_state["pressed"] = {"claim": test.session_state["review_claim"].claim_id, **what}
    test.run()
    assert not test.exception


@pytest.fixture
def pressing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk does what `pressed` in the session says, before it draws, as a callback would."""
    import streamlit as st

    draw = review_queue.controls

    def controls(person: Person) -> None:
        if (asked := st.session_state.pop("pressed", None)) is not None:
            review_queue.act(asked)
        draw(person)

    monkeypatch.setattr(review_queue, "controls", controls)


@pytest.mark.usefixtures("pressing")
def test_a_key_writes_and_the_next_post_shows(
    open_page: Open, database: Path, writer: MemoryWriter
) -> None:
    furnish(database, posts=0)
    test = open_page("review")
    first = component(test, "claim")
    _asked(test, verb="decide", action="remove", reason=None)
    assert "needs a reason" in component(test, "claim")["failure"]
    assert component(test, "claim")["claim"] == first["claim"]
    assert not writer.written
    _asked(test, verb="decide", action="remove", reason="violence-threats", note="seen before")
    second = component(test, "claim")
    assert second["post"]["id"] != first["post"]["id"]
    topic, key, review, _ = writer.written[0]
    assert (topic, key) == ("reviews", first["post"]["id"].encode())
    assert (review.action, review.reason, review.note) == (  # type: ignore[attr-defined]
        "remove",
        "violence-threats",
        "seen before",
    )
    _asked(test, verb="undo")
    assert component(test, "claim")["post"]["id"] == first["post"]["id"]
    assert [each[2].verdict for each in writer.written] == ["decide", "undo"]  # type: ignore[attr-defined]


def test_a_post_that_is_only_read_is_asked_for_again(
    open_page: Open, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(database, posts=0)
    test = open_page("review")
    claim = test.session_state["review_claim"]
    began, minute = page.now_ms(), 60_000
    # What the browser's timer runs, and nothing else of the page.
    monkeypatch.setattr(review_queue, "desk", lambda _: None)

    def expires_ms(after_min: float) -> int:
        monkeypatch.setattr(page, "now_ms", lambda: began + int(after_min * minute))
        test.run()
        assert not test.exception
        with sqlite3.connect(database.with_name(f"{database.name}.desk")) as desk:
            found: int = desk.execute(
                "SELECT expires_ms FROM claims WHERE claim_id = ?", (claim.claim_id,)
            ).fetchone()[0]
        desk.close()
        return found

    assert expires_ms(4) == began + 9 * minute
    assert [expires_ms(after) - began for after in (8, 12, 16, 20, 24, 28)][-1] == 33 * minute
    assert expires_ms(31) == began + 33 * minute, "nobody reads one post for so long"


@pytest.mark.usefixtures("pressing")
def test_what_was_not_written_stays_in_hand(
    open_page: Open, database: Path, writer: MemoryWriter
) -> None:
    furnish(database, posts=0)
    test = open_page("review")
    first = component(test, "claim")
    writer.away = True
    _asked(test, verb="decide", action="allow")
    again = component(test, "claim")
    assert "did not confirm" in again["failure"]
    assert again["post"]["id"] == first["post"]["id"]
    writer.away = False
    _asked(test, verb="decide", action="allow")
    assert component(test, "claim")["post"]["id"] != first["post"]["id"]
    assert len(writer.written) == 1


@pytest.mark.usefixtures("pressing")
def test_a_role_taken_away_meanwhile_cannot_act(
    open_page: Open,
    database: Path,
    writer: MemoryWriter,
    as_role: Callable[[Role], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    furnish(database, posts=0)
    as_role(Role.MODERATOR)
    test = open_page("review")
    first = component(test, "claim")
    # The menu still lets them in; the action looks at the role itself.
    moderator = Person("ann", Role.MODERATOR, "moderator-1")
    monkeypatch.setattr(acting, "person_for", lambda _role: moderator)
    monkeypatch.setattr(acting, "signed_in", lambda: Person("ann", Role.VIEWER, "moderator-1"))
    _asked(test, verb="decide", action="allow")
    assert "needs the role `moderator`" in component(test, "claim")["failure"]
    assert component(test, "claim")["post"]["id"] == first["post"]["id"]
    assert not writer.written


@pytest.mark.usefixtures("pressing")
def test_a_break_is_offered_and_gives_the_post_back(open_page: Open, database: Path) -> None:
    furnish(database, posts=0)
    test = open_page("review")
    assert component(test, "claim")["reminder"] is None
    now = page.now_ms()
    test.session_state["review_stretch"] = ReviewStretch(now - 51 * 60_000, now, 40)
    test.run()
    assert "51 min" in component(test, "claim")["reminder"]
    _asked(test, verb="later")
    assert component(test, "claim")["reminder"] is None
    _asked(test, verb="break")
    assert "On a break" in words(test)
    assert not [e for e in test.get("bidi_component") if "claim" in json.loads(e.proto.json)]
    test.button[0].click().run()
    assert component(test, "claim")["post"]["id"]
