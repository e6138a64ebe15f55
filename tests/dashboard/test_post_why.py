"""Why a post has its labels: thresholds, what became of it, and the words that drove it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dashboard import page
from dashboard.post_why import decided_facts, explained, thresholds_of
from dashboard.reader import open_reader
from dashboard.scope import FeedFilter, Scope
from models.manifest import load_manifest
from stream.records import ModelRef, encode
from tests.dashboard.history_feed import keep_history
from tests.dashboard.label_feed import stream_of


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(tmp_path / "read-model.db"))
    page.settings.clear()


def test_thresholds_are_those_of_the_version_that_labelled() -> None:
    (made,) = stream_of(1, start_ms=1_790_000_000_000)
    assert thresholds_of(made.label) == {}
    models = load_manifest().preset("compact").values()
    model = next(model for model in models if "toxicity" in model.heads)
    ref = ModelRef(id=model.id, version=model.version)
    label = msgspec.structs.replace(made.label, models={"toxicity": ref})
    found = thresholds_of(label)
    assert set(found) == set(model.heads["toxicity"].labels)
    language = label.labels["language"].label
    for name, own in model.heads["toxicity"].by_language.get(language, {}).items():
        assert found[name] == own.threshold


def test_rules_live_and_shadow_and_reviews_are_told(tmp_path: Path) -> None:
    path = tmp_path / "read-model.db"
    keep_history(path)
    with open_reader(path) as reader:
        assert reader is not None
        (judged,) = reader.db.execute(
            "SELECT post_id FROM decisions WHERE judged = 1 AND action = 'allow'"
        ).fetchone()
        facts = decided_facts(reader.db, judged)
        assert decided_facts(reader.db, "never-seen") == []
    told = dict(facts)
    assert "by kestrel" in told["Action"]
    assert told["The policy alone"].startswith("review")
    assert told["Rule, live"].startswith("insults 1: review")
    assert told["Rule, shadow"].startswith("insults-strict 2")
    assert told["Review"].startswith("decide allow by kestrel")


def test_the_words_that_drove_it_are_the_whole_text_in_order() -> None:
    made = next(m for m in stream_of(300, start_ms=1_790_000_000_000) if m.label.post)
    assert made.label.post is not None
    text = "<b>You</b> stupid rotten idiot, the tram is late"
    post = msgspec.structs.replace(made.label.post, text=text)
    label = msgspec.structs.replace(made.label, post=post)
    found = explained(label.label_id, encode(label))
    assert {each["title"].split(":")[0] for each in found} == {"Toxicity", "Sentiment"}
    for each in found:
        assert "".join(part["text"] for part in each["parts"]) == text
    assert any(part["way"] == "for" for part in found[0]["parts"])
    assert found[0]["told"].startswith("Driven by")
    nothing = msgspec.structs.replace(label, post=msgspec.structs.replace(post, text=" "))
    assert explained("another", encode(nothing)) == []


def test_the_feed_can_be_of_an_action(tmp_path: Path) -> None:
    path = tmp_path / "read-model.db"
    keep_history(path)
    with open_reader(path) as reader:
        assert reader is not None
        found = reader.feed(Scope(), FeedFilter(actions=("hide",)), 500)
        (expected,) = reader.db.execute(
            "SELECT count(*) FROM decisions WHERE action = 'hide'"
        ).fetchone()
    assert len(found) == expected > 0
