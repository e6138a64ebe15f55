"""Rules: rows, thresholds, drafts, and who may promote."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard.people import Role
from dashboard.writer import MemoryWriter
from stream.outcomes import AuditEvent
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open, component
from tests.dashboard.test_pages import words


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
