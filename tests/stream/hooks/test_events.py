"""Ids, names and bodies of what is delivered."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.events import Event, Place, data_of, decode_event, sample_events
from stream.outcomes import Action, AlertExample
from stream.records import encode
from tests.stream.hooks.servers import alert, decision


def test_the_id_depends_on_the_record_and_on_nothing_else() -> None:
    one = decision()
    elsewhere = Event("decision", one.record, b"other bytes", Place("other", 3, 99))
    assert elsewhere.message_id == one.message_id
    assert decision(2).message_id != one.message_id
    assert alert().message_id != alert(state="resolved").message_id
    assert alert().subject == alert(state="resolved").subject


@given(st.text(min_size=1))
def test_an_id_fits_every_header(name: str) -> None:
    event = decision(decision_id=name)
    assert event.message_id.isascii()
    assert event.message_id.replace("_", "").isalnum()
    assert len(event.message_id) < 64


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (decision(), "post.flagged"),
        (decision(action=Action.ALLOW, rules=[]), "post.allowed"),
        (decision(action=Action.ALLOW), "rule.shadow_hit"),
        (decision(by="review"), "review.decided"),
        (decision(retracted=True), "post.retracted"),
        (alert(), "alert.firing"),
        (alert(state="resolved"), "alert.resolved"),
    ],
)
def test_types(event: Event, name: str) -> None:
    assert event.type == name


@given(st.integers(0, 60_000), st.integers(2_000, 30_000))
def test_a_body_keeps_to_its_limit_and_says_so(chars: int, most: int) -> None:
    event = decision(text="ä" * chars)
    data = data_of(event, most)
    assert len(msgspec.json.encode(data)) <= most + len(b'"shortened":true,')
    whole = msgspec.to_builtins(event.record)
    assert data == whole or data["shortened"] is True
    assert data["decision_id"] == event.record_id


def test_a_thin_body_has_no_post() -> None:
    assert "post" not in data_of(decision(), 10_000, thin=True)
    examples = [AlertExample(post_id=str(n), text="x" * 1000) for n in range(5)]
    short = data_of(alert(examples=examples), 3000)
    assert max(len(example["text"]) for example in short["examples"]) == 280


def test_what_is_read_is_what_was_written() -> None:
    event = decision()
    assert decode_event("decision", event.original, Place("decisions", 0, 1)) == event
    with pytest.raises(msgspec.DecodeError):
        decode_event("alert", event.original, Place("alerts", 0, 1))


def test_samples_are_tests_and_pair_up() -> None:
    made_up, firing, resolved = sample_events("2026-11-22T10:00:00.000Z")
    assert {event.kind for event in (made_up, firing, resolved)} == {"test"}
    assert firing.subject == resolved.subject
    assert made_up.original == encode(made_up.record)
