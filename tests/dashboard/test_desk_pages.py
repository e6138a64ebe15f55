"""Review, Rules, Alerts and Audit in Streamlit's own test bench: states, roles, what is said."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import acting, page, policy_in_force, review_queue
from dashboard.audit_export import COLUMNS, as_csv, jsonl
from dashboard.people import Person, Role
from dashboard.policy_text import with_threshold
from dashboard.queries.audit import AuditFilter, export_entries
from dashboard.reader import open_reader
from dashboard.review_stretch import ReviewStretch
from dashboard.store import Store
from dashboard.writer import MemoryWriter
from stream.outcomes import AuditEvent
from stream.policy.load import policy_path
from tests.dashboard.desk_feed import furnish
from tests.dashboard.test_pages import _app, words

Open = Callable[..., AppTest]
PAGES = ("review", "rules", "alerts", "audit")
LEAST = {
    "review": Role.MODERATOR,
    "rules": Role.ANALYST,
    "alerts": Role.VIEWER,
    "audit": Role.MODERATOR,
}


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    policy = tmp_path / "policy.yaml"
    # The starter pack's numbers follow the model; these tests have their own.
    policy.write_text(with_threshold(policy_path().read_text(), "insult", "toxicity.insult", 0.43))
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    monkeypatch.setenv("TIDEGATE_POLICY__PATH", str(policy))
    page.settings.clear()
    policy_in_force.forget_policy()
    return path


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> MemoryWriter:
    made = MemoryWriter()
    monkeypatch.setattr(acting, "writer", lambda: made)
    return made


@pytest.fixture
def as_role(monkeypatch: pytest.MonkeyPatch) -> Callable[[Role], None]:
    def be(role: Role) -> None:
        monkeypatch.setattr(acting, "signed_in", lambda: Person("ann", role, f"{role}-1"))

    return be


@pytest.fixture
def open_page(database: Path, writer: MemoryWriter) -> Open:
    """`open_page("rules", view="Edit")`: the page after its first run, without an exception."""
    assert not writer.written
    assert database.name

    def run(name: str, **query: Any) -> AppTest:
        test = AppTest.from_file(_app(), default_timeout=60)
        test.run()
        for key, value in query.items():
            test.query_params[key] = value
        test.switch_page(f"app_pages/{name}.py").run()
        assert not test.exception, test.exception
        return test

    return run


def component(test: AppTest, key: str) -> dict[str, Any]:
    """What a component of ours got."""
    for element in test.get("bidi_component"):
        data: dict[str, Any] = json.loads(element.proto.json)
        if key in data:
            return data
    pytest.fail(f"no component with `{key}` on the page")


def everything(test: AppTest) -> str:
    """All that stands in elements which read Markdown."""
    kinds = ("markdown", "caption", "warning", "info", "error", "metric", "heading", "button")
    return "\n".join(str(element.proto) for kind in kinds for element in test.get(kind))


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


# -- review


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


# -- rules


def test_every_rule_has_a_row(open_page: Open, database: Path) -> None:
    policy = furnish(database, posts=400)
    test = open_page("rules", rule="insult")
    frame = test.dataframe[0].value
    assert list(frame["Rule"]) == [rule.id for rule in policy.rules]
    insult = frame.set_index("Rule").loc["insult"]
    assert insult["Matches/h"] > 0
    assert sum(insult["Matches by hour"]) > 0
    assert re.fullmatch(r"\d+% to \d+%", insult["95 % interval"])
    assert "kestrel" in insult["Last change"]
    assert any("toxicity.insult >= 0.43" in code.value for code in test.code)


def test_a_threshold_says_what_it_would_flag(open_page: Open, database: Path) -> None:
    furnish(database, posts=400)
    low = open_page("rules", view="Thresholds", label="toxicity.insult", at="0.2")
    high = open_page("rules", view="Thresholds", label="toxicity.insult", at="0.9")
    flagged = [float(test.metric[0].value.split(" ")[0].replace(",", "")) for test in (low, high)]
    assert flagged[0] > flagged[1] > 0
    assert "of them fine" in words(low)
    assert low.slider[0].value == pytest.approx(0.2)
    assert len(low.get("vega_lite_chart")) == 1


def test_a_threshold_becomes_a_draft_and_is_saved_with_its_audit(
    open_page: Open, database: Path, writer: MemoryWriter, tmp_path: Path
) -> None:
    furnish(database, posts=400)
    before = (tmp_path / "policy.yaml").read_text()
    test = open_page("rules", view="Thresholds", label="toxicity.insult", at="0.6", lang="German")
    test.selectbox(key="put_rule").set_value("insult").run()
    next(b for b in test.button if b.label.startswith("Put 0.60")).click().run()
    assert not test.exception
    said = words(test)
    assert "Loads without a mistake" in said
    assert (tmp_path / "policy.yaml").read_text() == before, "nothing is saved yet"
    next(b for b in test.button if b.label == "Backtest").click().run()
    assert "stored labels would be decided otherwise" in words(test)
    next(b for b in test.button if b.label == "Save").click().run()
    assert not test.exception
    after = (tmp_path / "policy.yaml").read_text()
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert {line.strip() for line in changed} == {
        "when: toxicity.insult >= 0.43 && !toxicity.unsupported",
        'when: toxicity.insult >= (language.label == "de" ? 0.6 :0.43) && !toxicity.unsupported',
        "version: 2",
    }
    topic, _, event, _ = writer.written[-1]
    assert topic == "audit"
    assert isinstance(event, AuditEvent)
    assert (event.what, event.on) == ("rule.save", "insult")
    assert {field["field"] for field in event.detail["fields"]} == {"when", "version"}


def test_without_the_audit_nothing_is_saved(
    open_page: Open, database: Path, writer: MemoryWriter, tmp_path: Path
) -> None:
    furnish(database, posts=60)
    test = open_page("rules", view="Thresholds", label="toxicity.insult", at="0.6")
    before = (tmp_path / "policy.yaml").read_text()
    next(b for b in test.button if b.label.startswith("Put 0.60")).click().run()
    writer.away = True
    next(b for b in test.button if b.label == "Save").click().run()
    assert "did not confirm" in words(test)
    assert (tmp_path / "policy.yaml").read_text() == before
    # Nor over somebody else's change.
    writer.away = False
    (tmp_path / "policy.yaml").write_text(f"{before}# mine\n")
    next(b for b in test.button if b.label == "Save").click().run()
    assert "changed by somebody else" in words(test)
    assert (tmp_path / "policy.yaml").read_text() == f"{before}# mine\n"
    assert not writer.written


def test_promoting_is_for_administrators(
    open_page: Open, database: Path, as_role: Callable[[Role], None]
) -> None:
    furnish(database, posts=60)
    as_role(Role.ANALYST)
    test = open_page("rules", rule="insult")
    assert all(b.disabled for b in test.button if b.label in ("Move to shadow", "Edit"))
    as_role(Role.ADMIN)
    test = open_page("rules", rule="insult")
    assert not any(b.disabled for b in test.button if b.label in ("Move to shadow", "Edit"))


def test_a_mistake_in_a_draft_is_shown_with_its_line(
    open_page: Open, database: Path, tmp_path: Path
) -> None:
    furnish(database, posts=30)
    path = tmp_path / "policy.yaml"
    test = open_page("rules", view="Edit", part="insult")
    data = component(test, "document")
    assert data["text"].lstrip().startswith("- id: insult")
    typed = data["text"].replace("toxicity.insult", "toxicity.insullt")
    test.session_state["editor"] = {"text": {"document": data["document"], "text": typed}}
    test.run()
    assert "did you mean `toxicity.insult`?" in words(test)
    assert component(test, "document")["wrong"] == [
        path.read_text().splitlines().index("  - id: insult") + 3
    ]
    assert not [b for b in test.button if b.label == "Save"]


# -- alerts


def test_alerts_show_charts_and_examples_as_text(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    test = open_page("alerts")
    assert len(test.get("vega_lite_chart")) == 2
    examples = component(test, "posts")["posts"]
    assert "<script>" in examples[0]["text"]
    assert examples[0]["abusive"], "veiled until it is asked for"
    assert "127.0.0.1:9" not in everything(test)
    assert any("127.0.0.1:9" in element.value for element in test.text)
    assert "1 firing" in everything(test)


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


# -- audit


def test_the_audit_lists_what_was_done_and_its_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    test = open_page("audit", people="true")
    frame = test.dataframe[-1].value
    assert set(frame["Who"]) <= {"kestrel", "heron"}
    assert {"rule.save", "alert.mute"} <= set(frame["What"])
    assert "chain whole" in everything(test)
    only = open_page("audit", kind="Rules").dataframe[-1].value
    assert set(only["What"]) == {"rule.save"}


def test_a_changed_entry_breaks_the_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    with sqlite3.connect(database) as broken:
        for (name,) in broken.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            broken.execute(f"DROP TRIGGER {name}")
        broken.execute("UPDATE audit SET who = 'nobody' WHERE what = 'rule.save'")
    broken.close()
    test = open_page("audit")
    assert "The audit is broken" in words(test)
    assert "audit[0]@0" in words(test)


def test_exports_hold_every_field(database: Path) -> None:
    furnish(database, posts=60)
    with open_reader(database) as reader:
        assert reader is not None
        entries = list(export_entries(reader.db, AuditFilter(people_only=True)))
    lines = [json.loads(line) for line in jsonl(entries).splitlines()]
    assert len(lines) == len(entries) >= 3
    assert all(list(line) == list(COLUMNS) for line in lines)
    formula = msgspec.json.encode({"a": 1}).decode()
    nasty = entries[0]._replace(on='=HYPERLINK("http://x")', detail=formula)
    rows = list(csv.reader(io.StringIO(as_csv([nasty]).decode())))
    assert rows[1][COLUMNS.index("on")].startswith("'=")
