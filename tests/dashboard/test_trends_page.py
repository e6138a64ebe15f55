"""The Trends page in Streamlit's test bench, and what it is computed from."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import acting, page
from dashboard.period import PERIODS, custom_period, period
from dashboard.queries import trends
from dashboard.queries.rise import who_says
from dashboard.queries.trends import Figures, Group
from dashboard.reader import open_reader
from dashboard.trend_metrics import METRICS, change, parts
from dashboard.trends_view import csv_of
from dashboard.writer import MemoryWriter
from tests.dashboard.history_feed import NASTY, keep_history, two_days

Open = Callable[..., AppTest]
APP = str(Path(dashboard.__file__).with_name("app.py"))


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    page.settings.clear()
    return path


@pytest.fixture
def open_trends(database: Path) -> Open:
    """`open_trends(period="7 d")`: the page as its address says, without an exception."""

    def run(**query: Any) -> AppTest:
        assert page.settings().dashboard.database == database
        test = AppTest.from_file(APP, default_timeout=60).run()
        test.switch_page("app_pages/trends.py")
        for key, value in query.items():
            test.query_params[key] = value
        test.run()
        assert not test.exception, test.exception
        return test

    return run


def words(test: AppTest) -> str:
    kinds = ("markdown", "caption", "text", "warning", "info", "error")
    return "\n".join(str(getattr(e, "value", "")) for kind in kinds for e in test.get(kind))


def spec(test: AppTest, n: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(test.get("vega_lite_chart")[n].proto.spec)
    return made


def test_before_there_are_posts_it_says_what_to_type(open_trends: Open) -> None:
    assert "No posts yet" in words(open_trends())


def test_figures_are_compared_with_the_period_before(open_trends: Open, database: Path) -> None:
    made = keep_history(database)
    test = open_trends()
    figures = {metric.label.split(" ", 1)[1]: metric for metric in test.metric}
    assert list(figures) == list(METRICS)
    newest = page.now_ms() - 24 * 3_600_000
    expected = sum(each.label.origin.timestamp_ms >= newest for each in made if each.label.origin)
    assert abs(int(figures["Volume"].value.replace(",", "")) - expected) <= 5
    assert "%" in figures["Volume"].delta
    assert "points" in figures["Toxicity"].delta
    assert "rose by" in words(test)
    assert "▲ 2 alerts began in it" in words(test)
    assert not test.warning


def test_the_chart_has_unit_time_zone_description_and_alerts(
    open_trends: Open, database: Path
) -> None:
    keep_history(database)
    test = open_trends(metric="Toxicity")
    drawn = test.get("vega_lite_chart")[0].proto
    made = spec(test)
    assert "time (UTC)" in json.dumps(made)
    assert "of posts" in json.dumps(made)
    assert "the 24 h before" in json.dumps(made)
    assert "alert began" in json.dumps(made)
    assert "Toxicity over 20" in str(drawn)


@pytest.mark.parametrize("by", ["Language", "Source", "Tag"])
def test_groups_are_those_of_the_read_model(open_trends: Open, database: Path, by: str) -> None:
    keep_history(database)
    table = open_trends(by=by).dataframe[0].value
    with open_reader(database) as reader:
        assert reader is not None
        now = page.now_ms() // 1000
        span = period("24 h", now)
        found = trends.groups(reader.db, by.lower(), span.from_s, span.to_s)  # type: ignore[arg-type]
    assert list(table["Posts"]) == [group.now.posts for group in found]
    assert table["Posts"].sum() > 10


def test_the_scope_holds_for_figures_and_tables(open_trends: Open, database: Path) -> None:
    keep_history(database)
    test = open_trends(by="Source")
    before = test.metric[0].value
    test.multiselect(key="source").set_value(["mastodon"]).run()
    assert test.metric[0].value == f"{test.dataframe[0].value['Posts'].sum():,}" != before
    assert test.query_params["source"] == "mastodon"
    assert list(test.dataframe[0].value["Source"]) == ["mastodon"]


def test_a_custom_period_is_in_the_address(open_trends: Open, database: Path) -> None:
    keep_history(database)
    day = datetime.fromtimestamp(time.time() - 20 * 3600, UTC)
    test = open_trends(
        period="Custom", **{"from": f"{day:%Y-%m-%dT%H:00}", "to": f"{day:%Y-%m-%dT%H}:30"}
    )
    assert "30 min before" in words(test) + str([metric.proto for metric in test.metric])


def test_rising_terms_say_who_makes_them_rise(open_trends: Open, database: Path) -> None:
    keep_history(database)
    test = open_trends(look="Rising")
    table = test.dataframe[0].value
    assert len(table)
    assert list(table["Lift"]) == sorted(table["Lift"], reverse=True)
    said = words(test)
    assert "What makes it rise" in said
    assert "authors" in said
    assert table["Terms"][0] in said


def test_who_says_a_term_is_counted_from_the_texts(database: Path) -> None:
    now_ms = page.now_ms()
    made = two_days(now_ms)
    keep_history(database, made)
    with open_reader(database) as reader:
        assert reader is not None
        now_s = now_ms // 1000
        said, none_before, newest = who_says(reader.db, "terms", "tram", (0, 0, now_s + 10))
        nobody = who_says(reader.db, "terms", "tra", (0, 0, now_s + 10)).now
        now, before, _ = who_says(reader.db, "terms", "tram", (0, now_s - 86_400, now_s + 10))
    texts = [each.label.post.text or "" for each in made if each.label.post]
    assert said.posts == sum("tram" in text.lower() for text in texts) > 0
    assert sum(said.authors.values()) == said.posts
    assert 0 < said.loudest <= 1
    assert nobody.posts == none_before.posts == 0
    assert now.posts + before.posts == said.posts
    assert now.posts > 0
    assert before.posts > 0
    assert [post.posted_ms for post in newest] == sorted(
        (p.posted_ms for p in newest), reverse=True
    )
    assert all("tram" in post.text.lower() for post in newest)


def test_topics_have_their_share_of_voice(open_trends: Open, database: Path) -> None:
    keep_history(database)
    test = open_trends(look="Topics and brands")
    while "Being counted" in words(test):  # beside the page; on a busy machine it takes a moment
        test.run()
    assert "Counted among the" in words(test)
    table = test.dataframe[0].value
    assert list(table["Topic"]) == ["Library", "Trams"]
    assert table["Share of voice"].sum() == pytest.approx(1)
    assert "posts per" in json.dumps(spec(test, 1))


def test_a_topic_is_saved_by_a_record(
    open_trends: Open, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_history(database)
    writer = MemoryWriter()
    monkeypatch.setattr(acting, "writer", lambda: writer)
    test = open_trends(look="Topics and brands")
    test.text_input(key="topic_name").set_value("Garden")
    test.text_input(key="topic_query").set_value("(garden").run()
    assert test.button(key="topic_save").disabled
    assert "bracket" in words(test).lower()
    test.text_input(key="topic_query").set_value("garden OR shed").run()
    test.button(key="topic_save").click().run()
    assert not test.exception
    ((topic, _, record, _),) = writer.written
    assert topic == "audit"
    assert (record.what, record.on, record.detail) == (  # type: ignore[attr-defined]
        "brand.save",
        "Garden",
        {"query": "garden OR shed"},
    )
    assert "The broker has it" in words(test)
    writer.away = True
    test.selectbox(key="topic_gone").set_value("Trams").run()
    test.button(key="topic_delete").click().run()
    assert "did not confirm" in words(test)


def test_authors_and_tags(open_trends: Open, database: Path) -> None:
    keep_history(database)
    authors, tags = (frame.value for frame in open_trends(look="Authors and domains").dataframe)
    assert list(authors["Posts"]) == sorted(authors["Posts"], reverse=True)
    assert list(tags["Tag"]) == ["diy"]


def test_no_text_of_others_reaches_markdown(open_trends: Open, database: Path) -> None:
    keep_history(database)
    for look in ("Breakdown", "Rising", "Topics and brands"):
        test = open_trends(look=look, source=NASTY, tag=NASTY)
        for kind in ("markdown", "caption", "metric", "warning", "info", "error"):
            for element in test.get(kind):
                assert "127.0.0.1:9" not in str(element.proto), kind


def test_a_spreadsheet_runs_nothing_of_a_csv() -> None:
    made = csv_of(("name", "posts"), [("=1+1", 3), ("@x", -4), ("tram", None)])
    rows = list(csv.reader(io.StringIO(made.decode("utf-8-sig"))))
    assert rows == [["name", "posts"], ["'=1+1", "3"], ["'@x", "-4"], ["tram", ""]]


figures = st.builds(Figures, *(st.integers(0, 500) for _ in range(5))).map(
    lambda f: f._replace(posts=f.positive + f.neutral + f.negative + f.toxic)
)


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=6))
def test_the_parts_of_a_change_add_up(pairs: list[tuple[Figures, Figures]]) -> None:
    groups = [Group(str(n), now, before) for n, (now, before) in enumerate(pairs)]
    now = Figures(*(sum(column) for column in zip(*(g.now for g in groups), strict=True)))
    before = Figures(*(sum(column) for column in zip(*(g.before for g in groups), strict=True)))
    for metric in METRICS.values():
        moved, found = change(metric, now, before), parts(metric, groups)
        if moved is not None and found:
            assert sum(part.part for part in found) == pytest.approx(moved, abs=1e-9)


@given(st.integers(0, 2_000_000_000), st.integers(1, 400 * 86_400))
def test_a_custom_period_is_whole_steps_of_five_minutes(from_s: int, length: int) -> None:
    ends = [datetime.fromtimestamp(s, UTC) for s in (from_s + length, from_s)]
    made = custom_period(ends[0], ends[1], 3_000_000_000)
    assert made.from_s % 300 == 0
    assert made.length_s >= 300
    assert made.length_s / made.step_s <= 150 or made.step_s == 7 * 86_400


@pytest.mark.parametrize("name", PERIODS)
def test_a_period_ends_now(name: str) -> None:
    made = period(name, 1_790_000_123)
    assert 0 <= made.to_s - 1_790_000_123 < 300
    assert made.length_s == PERIODS[name][0]
