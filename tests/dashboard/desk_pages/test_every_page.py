"""What holds for each of them: before there is anything, for each role, and when it is frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard import page
from dashboard.people import Role
from dashboard.projector import BEAT_S, SILENT_S
from dashboard.store import Store
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open
from tests.dashboard.test_pages import words

#: What the pages promise: amber within so long.
TOLD_S = 10
PAGES = ("review", "rules", "alerts", "audit")
LEAST = {
    "review": Role.MODERATOR,
    "rules": Role.ANALYST,
    "alerts": Role.VIEWER,
    "audit": Role.MODERATOR,
}


@pytest.mark.parametrize("name", PAGES)
def test_before_there_is_a_read_model(open_page: Open, name: str) -> None:
    open_page(name)


@pytest.mark.parametrize("name", PAGES)
def test_a_role_that_is_not_enough_is_told_so(
    open_page: Open, database: Path, as_role: Callable[[Role], None], name: str
) -> None:
    furnish(database, posts=30)
    for role in Role:
        as_role(role)
        said = words(open_page(name))
        assert ("This page is not for your role" in said) == (role.rank < LEAST[name].rank)


def test_amber_stands_within_ten_seconds_of_the_last_word() -> None:
    # By how long one may be silent, when a page looks next, and a second for the page to be drawn.
    assert page.STALE_S + page.LOOK_S + 1 <= TOLD_S
    # Of a broker that is silent the projector's next word tells.
    assert SILENT_S + BEAT_S + page.LOOK_S + 1 <= TOLD_S
    # A projector that is merely busy for a few of its words is not called away.
    assert page.STALE_S >= 5 * BEAT_S


@pytest.mark.parametrize("name", [*PAGES, "trends", "models", "system"])
def test_a_frozen_read_model_is_amber(
    open_page: Open, database: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    furnish(database, posts=30)
    now_ms = page.now_ms()
    with Store(database) as store:
        store.beat("projector", "reading", now_ms, {})
    for silent_s, amber in ((page.STALE_S - 0.1, False), (page.STALE_S + 0.1, True)):
        at_ms = now_ms + int(silent_s * 1000)
        monkeypatch.setattr(page, "now_ms", lambda at_ms=at_ms: at_ms)
        test = open_page(name)
        assert ("This page is frozen" in words(test)) is amber
        # Streamlit's warning is amber; nothing else on the page need be.
        assert any("This page is frozen" in str(each.proto) for each in test.warning) is amber
