"""The pages in Streamlit's own test bench: what a script draws, without a browser."""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import page
from dashboard.projection import Place, dead_letter_row
from dashboard.reader import open_reader
from dashboard.store import Batch, PartitionBacklog, Store
from dashboard.worker_beats import FORGOTTEN_MS, LAG, RoleLag, beats_of, lag_detail, worker_row
from stream.outcomes import WORKER_SCHEMA, ModelInUse, WorkerBeat
from stream.records import DEAD_LETTER_SCHEMA, Author, DeadLetter, Origin, encode, rfc3339
from tests.dashboard.conftest import batch_of
from tests.dashboard.desk_feed import furnish
from tests.dashboard.label_feed import Made, stream_of

Open = Callable[..., AppTest]
NASTY = "![x](http://127.0.0.1:9/x.png) <script>alert(1)</script> :red[boo]"


def _app() -> str:
    spec = importlib.util.find_spec("dashboard.app")
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    page.settings.clear()
    return path


@pytest.fixture
def open_page(database: Path) -> Open:
    """`open_page("system", range="1 h")`: the page after its first run, without an exception."""
    assert not database.exists()

    def run(name: str = "live", **query: Any) -> AppTest:
        test = AppTest.from_file(_app(), default_timeout=60)
        for key, value in query.items():
            test.query_params[key] = value
        test.run()
        if name != "live":
            test.switch_page(f"app_pages/{name}.py").run()
        assert not test.exception, test.exception
        return test

    return run


def filled(path: Path, made: list[Made], *, beat_ago_s: float = 0, **status: Any) -> None:
    """A read model with these labels, a backlog, a dead letter, and a projector's heartbeat."""
    now = time.time_ns() // 1_000_000
    letter = DeadLetter(
        schema=DEAD_LETTER_SCHEMA,
        dead_letter_id="posts/0/1",
        reason="not-json",
        error="not JSON: " + NASTY,
        original=NASTY.encode(),
        original_bytes=len(NASTY),
        at="2026-11-22T10:00:00.000Z",
        origin=Origin(topic="posts", partition=0, offset=1, timestamp_ms=now),
        input="feed.jsonl:3",
    )
    with Store(path) as store:
        store.apply(batch_of(made))
        store.apply(Batch(dead_letters=[dead_letter_row(encode(letter), Place(0, 0, now))]))
        store.sample_backlog(
            [PartitionBacklog(0, 120, 100, 20), PartitionBacklog(1, 9, None, 9)], now
        )
        detail = {"kafka": "127.0.0.1:9092", "records_per_s": 12.0, "behind": 0}
        at = now - int(beat_ago_s * 1000)
        store.beat("projector", status.get("projector", "reading"), at, detail)
        store.beat("broker", status.get("broker", "ready"), at, detail | {"brokers": ["b:1"]})
        store.beat("workers", "Stable", at, {"group": "tidegate", "members": 2, "progress_ms": now})


def recent(count: int = 600, **options: Any) -> list[Made]:
    start = (int(time.time()) - 240) * 1000
    return list(stream_of(count, start_ms=start, posts_per_s=count / 230, **options))


def words(test: AppTest) -> str:
    """Everything a page says in elements of Streamlit's."""
    kinds = ("markdown", "caption", "code", "text", "warning", "info", "error")
    return "\n".join(
        f"{getattr(element.proto, 'title', '')} {getattr(element, 'value', '')}"
        for kind in kinds
        for element in test.get(kind)
    )


def feed(test: AppTest) -> dict[str, Any]:
    """What the feed's component got."""
    for element in test.get("bidi_component"):
        data = json.loads(element.proto.json)
        if data["kind"] == "feed" and data["height"]:
            found: dict[str, Any] = data
            return found
    pytest.fail("no feed on the page")


@pytest.mark.parametrize("name", ["live", "system"])
def test_before_there_is_a_read_model_the_page_says_what_to_type(
    open_page: Open, name: str
) -> None:
    said = words(open_page(name))
    assert "No posts yet" in said
    assert "tidegate dashboard" in said


def test_with_a_projector_and_no_posts_it_asks_for_a_file(open_page: Open, database: Path) -> None:
    with Store(database) as store:
        store.beat("projector", "reading", page.now_ms(), {})
    assert "tidegate replay FILE" in words(open_page())
    with Store(database) as store:
        store.sample_backlog([PartitionBacklog(0, 44, None, 44)], page.now_ms())
    said = words(open_page())
    assert "**44** posts wait" in said
    assert "tidegate worker" in said


def test_live_shows_figures_charts_and_the_feed(open_page: Open, database: Path) -> None:
    # The projector is heard of for as long as a busy machine draws.
    filled(database, recent(wave=(100, 140)), beat_ago_s=-120)
    test = open_page()
    metrics = {metric.label.split(" ", 1)[1]: metric for metric in test.metric}
    assert list(metrics) == ["Throughput", "Latency p95", "Backlog", "Abusive", "Net sentiment"]
    assert metrics["Backlog"].value == "29"
    assert metrics["Abusive"].value.endswith("%")
    assert "600 posts" in metrics["Throughput"].delta
    assert len(test.get("vega_lite_chart")) == 4
    assert "Wave" in words(test)
    posts = feed(test)["posts"]
    assert len(posts) == 60
    assert [post["at"] for post in posts] == sorted((post["at"] for post in posts), reverse=True)
    assert not test.warning


def test_the_address_holds_the_filters(open_page: Open, database: Path) -> None:
    filled(database, recent())
    test = open_page(toxicity="abuse", language=["English"], range="5 min", text="o")
    posts = feed(test)["posts"]
    assert posts
    assert all(post["abusive"] and post["language"]["label"] == "en" for post in posts)
    assert all("o" in post["text"].lower() for post in posts)
    test = open_page(source="mastodon", sentiment="positive", author="mara3", score=["0.0", "0.1"])
    posts = feed(test)["posts"]
    assert posts
    assert {(post["source"], post["author"]) for post in posts} == {("mastodon", "mara3")}
    assert {post["sentiment"]["label"] for post in posts} == {"positive"}
    assert all(float(post["toxicity"]["score"]) <= 0.1 for post in posts)


def test_a_filter_that_nothing_passes_says_so(open_page: Open, database: Path) -> None:
    filled(database, recent(50))
    found = feed(open_page(text="no post says this"))
    assert found["posts"] == []
    assert "No post passes" in found["nothing"]


def test_pause_holds_the_feed(open_page: Open, database: Path) -> None:
    filled(database, recent(100))
    test = open_page()
    test.toggle(key="paused").set_value(True).run()
    before = [post["id"] for post in feed(test)["posts"]]
    later = list(stream_of(30, start_ms=page.now_ms() + 1000, first=5000))
    with Store(database) as store:
        store.apply(batch_of(later))
    test.run()
    assert "Paused at" in words(test)
    assert [post["id"] for post in feed(test)["posts"]] == before
    test.toggle(key="paused").set_value(False).run()
    assert feed(test)["posts"][0]["id"] == later[-1].label.post_id


def test_a_read_model_nobody_brings_up_to_date_is_amber(open_page: Open, database: Path) -> None:
    filled(database, recent(50), beat_ago_s=42)
    test = open_page()
    assert test.warning
    said = words(test)
    assert "This page is frozen" in said
    assert re.search(r"brought up to date (4[2-9]|5\d|1 min) ", said)


def test_a_broker_that_is_away_is_amber(open_page: Open, database: Path) -> None:
    filled(database, recent(50), projector="broker-away", broker="away")
    assert "The broker is away" in words(open_page())
    assert "The broker is away" in words(open_page("system"))


def test_nothing_in_the_range_names_the_newest_post(open_page: Open, database: Path) -> None:
    old = list(stream_of(30, start_ms=page.now_ms() - 7_200_000))
    filled(database, old)
    said = words(open_page())
    assert "Nothing in the last 15 min" in said
    assert "The newest post is from" in said


def test_system_shows_partitions_dead_letters_models(open_page: Open, database: Path) -> None:
    filled(database, recent())
    test = open_page("system")
    partitions, figures, _, _, letters, models = (frame.value for frame in test.dataframe[:6])
    assert list(partitions["Waiting"]) == [20, 9]
    assert "p95, last minute" in set(figures["Figure"])
    assert list(letters["Reason"]) == ["not-json"]
    assert letters["Where from"][0] == "feed.jsonl:3 · posts[0]@1"
    assert list(models["Model"]) == ["tidegate/compact"]
    assert list(models["Posts"]) == [600]
    said = words(test)
    assert "2 workers" in said
    assert NASTY not in "".join(element.value for element in test.markdown)


def beat(role: str, at_ms: int, **options: Any) -> bytes:
    """What a worker's process says of itself."""
    return encode(
        WorkerBeat(
            schema=WORKER_SCHEMA,
            worker_id=f"quay/{role}",
            role=role,
            host="quay",
            pid=7,
            version="0.1.0",
            started_at=rfc3339(at_ms - 60_000),
            at=rfc3339(at_ms),
            **options,
        )
    )


def test_system_shows_every_role_and_how_the_models_run(open_page: Open, database: Path) -> None:
    filled(database, recent(50))
    now = page.now_ms()
    model = ModelInUse(
        id="tidegate/compact",
        version="7",
        device="cpu",
        provider="CPUExecutionProvider",
        precision="int8",
        warm_up_s=0.25,
        sessions=1,
        threads=2,
        fused={"Attention": 6, "Gelu": 6},
        remark="CUDA is not there: " + NASTY,
    )
    beats = (
        beat("label", now - 2000, records=600, records_per_s=20.5, models=[model]),
        beat("decide", now - 90_000, records=500),
        beat("hooks/pager", now - 1000),
    )
    lags = [
        RoleLag(role="decide", topic="labels", partition=1, committed=40, end=52, waiting=12),
        RoleLag(role="decide", topic="reviews", partition=0, committed=None, end=3, waiting=None),
        RoleLag(role="hooks/pager", topic="alerts", partition=0, committed=5, end=5, waiting=0),
    ]
    with Store(database) as store:
        # The newest beat of a process counts, in whatever order they are read.
        older = beat("label", now - 20_000, records=400)
        rows = [worker_row(value, Place(0, n, now)) for n, value in enumerate((*beats, older))]
        store.apply(Batch(workers=rows))
        store.beat(LAG, "sampled", now, lag_detail(lags))
    test = open_page("system")
    tables = {tuple(frame.value.columns)[:2]: frame.value for frame in test.dataframe}
    roles = tables["Role", "State"].set_index("Role")
    assert list(roles.index) == ["label", "decide", "hooks/pager"]
    assert list(roles["State"]) == ["✓ working", "▲ silent", "✓ idle"]
    assert list(roles["Waiting"]) == [20, 12, 0]
    assert roles.loc["label", "Records/s"] == 20.5
    partitions = tables["Role", "Partition"]
    assert list(partitions["Partition"]) == ["posts[0]", "labels[1]", "reviews[0]", "alerts[0]"]
    runs = tables["Model", "Version"].iloc[0] if "Provider" in tables["Model", "Version"] else None
    assert runs is not None
    assert (runs["Provider"], runs["Fused operators"]) == (
        "CPUExecutionProvider",
        "6 Attention, 6 Gelu",
    )
    assert runs["Warm-up (s)"] == 0.25
    assert any(NASTY in element.value for element in test.text)
    assert NASTY not in "".join(element.value for element in test.markdown)
    # An hour later nobody remembers a process that has ended.
    with Store(database) as store:
        store.tidy(now + FORGOTTEN_MS + 1)
    with open_reader(database) as reader:
        assert reader is not None
        assert beats_of(reader.status()) == []


def test_every_chart_has_units_a_time_zone_and_a_description(
    open_page: Open, database: Path
) -> None:
    furnish(database, posts=300)
    seen = 0
    for name, query in (
        ("live", {}),
        ("trends", {"period": "6 h"}),
        ("rules", {"rule": "insult"}),
        ("rules", {"view": "Thresholds"}),
        ("alerts", {}),
        ("models", {}),
        ("system", {}),
    ):
        for chart in open_page(name, **query).get("vega_lite_chart"):
            seen += 1
            assert chart.proto.alt, name
            spec = json.loads(chart.proto.spec)
            titles = axes_of(spec)
            assert titles, name
            for (axis, kind), found in titles.items():
                if kind == "temporal":
                    assert any("(UTC)" in title for title in found), (name, found)
                elif kind == "quantitative":
                    assert any(found), (name, axis, found)
            if any(kind == "temporal" for _, kind in titles):
                assert "UTC" in chart.proto.alt, (name, chart.proto.alt)
    assert seen >= 12


def axes_of(spec: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """The titles that a chart gives its axes, over all of its layers."""
    found: dict[tuple[str, str], list[str]] = {}
    for part in (spec, *spec.get("layer", ())):
        for axis in ("x", "y"):
            encoding = part.get("encoding", {}).get(axis, {})
            if "type" in encoding and encoding.get("axis", {}) is not None:
                title = encoding.get("title") or ""
                found.setdefault((axis, encoding["type"]), []).append(title)
    return found


def test_the_drawer_shows_a_post_by_its_address(open_page: Open, database: Path) -> None:
    made = recent(50)
    filled(database, made)
    label = made[10].label
    test = open_page(post=label.post_id)
    details = [json.loads(element.proto.json) for element in test.get("bidi_component")]
    shown = next(data for data in details if data["kind"] == "details")
    assert label.post is not None
    assert shown["post"]["text"] == label.post.text
    assert [group["title"] for group in shown["groups"]] == ["Toxicity", "Sentiment", "Language"]
    origin = label.origin
    assert origin is not None
    about = shown["sections"][-1]["facts"]
    assert ["Origin", f"posts[{origin.partition}]@{origin.offset}"] in about
    assert not test.code
    test.session_state["raw"] = True
    test.run()
    assert json.loads(test.code[-1].value)["post_id"] == label.post_id
    assert "This post is not here" in words(open_page(post="never-seen"))


@pytest.mark.parametrize("name", ["live", "system"])
def test_a_file_that_cannot_be_read_is_explained(
    open_page: Open, database: Path, name: str
) -> None:
    database.write_bytes(b"this is no database at all\n" * 100)
    assert "file is not a database" in words(open_page(name))
    database.unlink()
    filled(database, recent(30))
    broken = sqlite3.connect(database)
    broken.execute("DROP TABLE rollups")
    broken.close()
    assert "no such table" in words(open_page("live"))


def test_no_text_of_a_post_reaches_markdown(open_page: Open, database: Path) -> None:
    """Whatever field carries it, it may stand only where it is text."""
    nasty = []
    for n, made in enumerate(stream_of(40, start_ms=page.now_ms() - 60_000, wave=(0, 100))):
        assert made.label.post is not None
        post = msgspec.structs.replace(
            made.label.post,
            text=NASTY,
            source=NASTY,
            author=Author(id=NASTY, handle=NASTY),
            url=NASTY,
            tags=[NASTY],
        )
        label = msgspec.structs.replace(made.label, post_id=f"{NASTY}{n}", post=post)
        nasty.append(Made(made.partition, label))
    filled(database, nasty)
    for test in (open_page(), open_page("system"), open_page(post=f"{NASTY}3")):
        for kind in ("markdown", "caption", "warning", "info", "error", "metric", "heading"):
            for element in test.get(kind):
                assert "127.0.0.1:9" not in str(element.proto), kind
        for kind in ("multiselect", "pills", "button", "expander"):
            for element in test.get(kind):
                assert "127.0.0.1:9" not in str(getattr(element.proto, "label", "")), kind
