"""What a mute keeps back, and what is told when it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.events import Event
from stream.hooks.mutes import KeptBack, Mutes
from stream.outcomes import AUDIT_SCHEMA, AuditEvent
from stream.records import rfc3339
from tests.stream.hooks.servers import alert, decision

T = 1_795_000_000_000
HOUR = 3_600_000


def said(what: str, rule: str, at_ms: int, until_ms: int = 0) -> AuditEvent:
    return AuditEvent(
        schema=AUDIT_SCHEMA,
        event_id=f"{what}-{at_ms}",
        at=rfc3339(at_ms),
        who="p-1",
        what=what,
        on=rule,
        detail={"until_ms": until_ms},
    )


def muted(*events: AuditEvent) -> Mutes:
    mutes = Mutes()
    for event in events:
        mutes.note(event)
    return mutes


def test_a_mute_holds_from_when_it_was_said_until_its_end_or_the_next_word() -> None:
    mutes = muted(
        said("alert.mute", "toxicity", T, T + HOUR),
        said("alert.acknowledge", "toxicity", T + 10),
    )
    assert [mutes.in_force("toxicity", at) for at in (T - 1, T, T + HOUR - 1, T + HOUR)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not mutes.in_force("another", T)
    # Read in any order; what was said later counts from then on, and not before.
    mutes.note(said("alert.unmute", "toxicity", T + 600))
    mutes.note(said("alert.mute", "toxicity", T + 300, T + 2 * HOUR))
    assert mutes.in_force("toxicity", T + 599)
    assert not mutes.in_force("toxicity", T + 600)


def test_an_episode_that_begins_and_ends_under_the_mute_is_never_told() -> None:
    kept = KeptBack(muted(said("alert.mute", "toxicity", T, T + HOUR)))
    assert kept.keeps(alert(1), T + 5)
    assert kept.keeps(alert(2, "resolved"), T + 10)
    assert kept.release(T + 2 * HOUR) == []
    assert not len(kept)


def test_what_still_fires_when_the_mute_ends_is_told_once_and_its_end_too() -> None:
    kept = KeptBack(muted(said("alert.mute", "toxicity", T, T + HOUR)))
    assert kept.keeps(alert(1), T + 5)
    assert kept.release(T + HOUR - 1) == []
    assert kept.release(T + HOUR) == [alert(1)]
    assert kept.release(T + HOUR) == []
    assert kept.keeps(alert(1), T + 5), "read once more, it is on its way already"
    assert not kept.keeps(alert(2, "resolved"), T + HOUR + 5)


def test_what_was_told_before_the_mute_is_also_told_when_it_ends() -> None:
    kept = KeptBack(muted(said("alert.mute", "toxicity", T, T + HOUR)))
    assert not kept.keeps(alert(1), T - 5)
    assert not kept.keeps(alert(2, "resolved"), T + 5)


def test_decisions_and_tests_are_not_muted() -> None:
    kept = KeptBack(muted(said("alert.mute", "toxicity", T, T + HOUR)))
    assert not kept.keeps(decision(1), T + 5)
    assert not kept.keeps(alert(1, test=True), T + 5)


def test_a_restart_tells_nothing_twice_and_nothing_of_what_is_over() -> None:
    """The end of the topic is read first, then the records that were not committed once more."""
    mutes = muted(said("alert.mute", "toxicity", T, T + HOUR))
    story = [(alert(1), T + 5), (alert(2, "resolved"), T + 10)]
    kept = KeptBack(mutes)
    kept.begin(story)
    assert [kept.keeps(*each) for each in story] == [True, True]
    told = KeptBack(mutes, told=lambda event: event.record_id == alert(1).record_id)
    told.begin(story[:1])
    assert told.release(T + HOUR) == []
    assert [told.keeps(*each) for each in story] == [True, False]


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=12),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_no_end_is_told_without_its_beginning(ticks: list[int], begin: int, length: int) -> None:
    """Episodes of one rule, one after the other, around a mute of any place and length."""
    mutes = muted(said("alert.mute", "toxicity", T + begin, T + begin + length))
    kept, told, now = KeptBack(mutes), list[Event](), T
    for number, wait in enumerate(ticks):
        now += wait
        told += kept.release(now)
        state = "resolved" if number % 2 else "firing"
        event = alert(number, state, alert_id=f"a{number // 2}")
        if not kept.keeps(event, now):
            told.append(event)
    ids = [event.record_id for event in told]
    assert len(ids) == len(set(ids))
    for event in told:
        if event.type == "alert.resolved":
            assert f"{event.subject}/firing" in ids
    if now >= T + begin + length:
        told += kept.release(now)
        last = f"a{(len(ticks) - 1) // 2}/firing"
        assert len(ticks) % 2 == 0 or last in [event.record_id for event in told]
