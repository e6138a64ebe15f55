"""Alerts: charts, examples, filters, and what people do about them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from dashboard import page
from dashboard.feed import toxicity_word
from dashboard.people import Role
from dashboard.store import Store
from dashboard.writer import MemoryWriter
from stream.outcomes import AlertExample, AuditEvent
from stream.records import rfc3339
from stream.topics import ALERTS
from tests.dashboard.conftest import batch_of
from tests.dashboard.desk_feed import alerts_at, furnish
from tests.dashboard.desk_pages.reading import Open, component, everything
from tests.dashboard.label_feed import label_of
from tests.dashboard.outcome_feed import batch_of_outcomes
from tests.dashboard.test_pages import words


def test_alerts_show_charts_and_examples_as_text(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    test = open_page("alerts")
    assert len(test.get("vega_lite_chart")) == 2
    examples = component(test, "posts")["posts"]
    assert "<script>" in examples[0]["text"]
    assert examples[0]["veil"] == "toxic", "veiled until it is asked for"
    assert "127.0.0.1:9" not in everything(test)
    assert any("127.0.0.1:9" in element.value for element in test.text)
    assert "1 firing" in everything(test)


def test_examples_have_their_labels_and_outlive_the_episode_but_not_the_post(
    open_page: Open, database: Path
) -> None:
    furnish(database, posts=0)
    now_ms = page.now_ms()
    made = {
        name: label_of(n, posted_ms=now_ms, rng=random.Random(n), post_id=name, **options)  # type: ignore[arg-type]
        for n, (name, options) in enumerate(
            {
                "mine": {"text": "you soggy biscuit", "abusive": True},
                "calm": {"text": "the bridge is open", "abusive": False},
                "gone": {"text": "nobody may read this", "abusive": True},
            }.items(),
            start=70_000,
        )
    }
    deleted = label_of(70_010, posted_ms=now_ms + 1, rng=random.Random(1), post_id="gone", retracted=True)  # fmt: skip
    examples = [
        AlertExample(post_id="mine", text="you soggy biscuit", score=0.9),
        AlertExample(post_id="calm", text="the bridge is open"),
        AlertExample(post_id="gone", text="nobody may read this", score=0.8),
        AlertExample(post_id="old", text="kept by the alert alone", score=0.7),
        AlertExample(post_id="older", text="and without a score"),
    ]
    firing = alerts_at(now_ms)[0]
    fired = msgspec.structs.replace(firing, alert_id="over", examples=examples)
    over = msgspec.structs.replace(
        fired, state="resolved", examples=[], at=rfc3339(now_ms), resolved_at=rfc3339(now_ms)
    )
    with Store(database) as store:
        store.apply(batch_of([*made.values(), deleted]))
        store.apply(batch_of_outcomes([(ALERTS, fired), (ALERTS, over)], {"alerts": 10}))
    test = open_page("alerts", state="Past")
    shown = {post["id"]: post for post in component(test, "posts")["posts"]}
    toxicity = made["mine"].label.labels["toxicity"].label
    assert toxicity != "none"
    assert shown["mine"]["toxicity"]["label"] == toxicity
    assert shown["mine"]["veil"] == toxicity_word(toxicity)
    assert shown["mine"]["language"]
    assert shown["calm"]["toxicity"]["word"] == "clean"
    assert shown["calm"]["veil"] == "an example of the alert"
    assert (shown["gone"]["text"], shown["gone"]["toxicity"]) == ("", None)
    assert "deleted" in shown["gone"]["nothing"]
    assert shown["old"]["toxicity"] == {"word": "toxic", "label": "toxic", "score": "0.70"}
    assert (shown["older"]["toxicity"], bool(shown["older"]["veil"])) == (None, True)


def test_alerts_filter_by_the_address(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    assert len(open_page("alerts", state="Past").get("vega_lite_chart")) == 1
    assert "No alert here" in words(open_page("alerts", rule="never-there"))


def test_acknowledge_mute_and_rate_write_to_the_audit(
    open_page: Open, database: Path, writer: MemoryWriter
) -> None:
    furnish(database, posts=30)
    test = open_page("alerts")
    test.button(key="ack-toxicity-1").click().run()
    test.button(key="mute-toxicity-1-8 h").click().run()
    test.button(key="down-toxicity-1").click().run()
    assert not test.exception
    events = [each[2] for each in writer.written]
    assert [(e.what, e.on, e.detail.get("up")) for e in events if isinstance(e, AuditEvent)] == [
        ("alert.acknowledge", "toxicity-1", None),
        ("alert.mute", "toxic-wave", None),
        ("alert.thumbs", "toxicity-1", False),
    ]


def test_a_viewer_can_look_and_not_act(
    open_page: Open, database: Path, as_role: Callable[[Role], None]
) -> None:
    furnish(database, posts=30)
    as_role(Role.VIEWER)
    test = open_page("alerts")
    assert all(
        button.disabled
        for button in test.button
        if button.key and "-toxicity-1" in button.key and "mute" not in button.key
    )


def test_of_many_alerts_some_are_drawn_and_more_on_demand(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    past = alerts_at(page.now_ms())[1]
    records = [
        (ALERTS, msgspec.structs.replace(past, alert_id=f"surge-{n}")) for n in range(100, 130)
    ]
    with Store(database) as store:
        store.apply(batch_of_outcomes(records, {"alerts": 10}))
    test = open_page("alerts")

    def cards() -> int:
        return sum((button.key or "").startswith("ack-") for button in test.button)

    assert "31 past" in everything(test)
    assert cards() == 20
    test.button(key="alerts-more").click().run()
    assert cards() == 32
    assert not [button for button in test.button if button.key == "alerts-more"]
