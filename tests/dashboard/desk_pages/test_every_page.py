"""What holds for each of them: before there is anything, for each role, and when it is frozen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard import page
from dashboard.people import Role
from dashboard.store import Store
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open
from tests.dashboard.test_pages import words

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


@pytest.mark.parametrize("name", PAGES)
def test_a_frozen_read_model_is_amber(open_page: Open, database: Path, name: str) -> None:
    furnish(database, posts=30)
    with Store(database) as store:
        store.beat("projector", "reading", page.now_ms() - 60_000, {})
    assert "This page is frozen" in words(open_page(name))
