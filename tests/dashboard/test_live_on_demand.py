"""What the Live page shows on demand: posts of an action, and the other figures over time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import page
from dashboard.reader import open_reader
from tests.dashboard.desk_feed import furnish
from tests.dashboard.test_pages import _app, feed, filled, recent


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    page.settings.clear()
    return path


def live(**query: Any) -> AppTest:
    test = AppTest.from_file(_app(), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def titles(test: AppTest) -> set[str]:
    """Of the vertical axes of the charts on the page."""
    found: set[str] = set()
    for chart in test.get("vega_lite_chart"):
        found |= set(
            re.findall(r'"y": ?{[^{}]*(?:{[^{}]*}[^{}]*)*"title": ?"([^"]+)"', chart.proto.spec)
        )
    return found


def test_latency_backlog_and_languages_are_there_over_time(path: Path) -> None:
    filled(path, recent(wave=(100, 140)), beat_ago_s=-120)
    assert "posts/s" in titles(live())
    assert "ms" in titles(live(pace="Latency"))
    test = live(pace="Backlog", mix="Over time")
    assert "posts waiting" in titles(test)
    assert any(
        '"language"' in chart.proto.spec and '"at"' in chart.proto.spec
        for chart in test.get("vega_lite_chart")
    )
    assert not test.warning


def test_the_feed_shows_the_posts_of_an_action(path: Path) -> None:
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
        posts = {post["id"] for post in feed(live(action=chosen))["posts"]}
        assert posts <= set[str]().union(*(held[action] for action in chosen))
        assert len(posts) == min(60, sum(len(held[action]) for action in chosen))
