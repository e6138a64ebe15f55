"""The action filter of the Live page: what became of posts, in the address like every filter."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import page
from dashboard.reader import open_reader
from tests.dashboard.desk_feed import furnish
from tests.dashboard.test_pages import _app, feed


def test_the_feed_shows_the_posts_of_an_action(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    page.settings.clear()
    furnish(path)
    with open_reader(path) as reader:
        assert reader is not None
        held = {
            action: {post_id for post_id, of in found if of == action}
            for found in [reader.db.execute("SELECT post_id, action FROM decisions").fetchall()]
            for action in ("flag", "review", "remove")
        }
    assert held["flag"]
    assert held["review"]
    for chosen in (["flag"], ["flag", "review"], ["remove"]):
        test = AppTest.from_file(_app(), default_timeout=60)
        test.query_params["action"] = chosen
        test.run()
        assert not test.exception
        posts = {post["id"] for post in feed(test)["posts"]}
        assert posts <= set[str]().union(*(held[action] for action in chosen))
        assert len(posts) == min(60, sum(len(held[action]) for action in chosen))
