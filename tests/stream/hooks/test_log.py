"""What the end of the log says of records that are read once more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.deliverer import delivery_id, delivery_of
from stream.hooks.events import Event, Place
from stream.hooks.log import LogFilter, Memory, log_partition, place_of
from stream.hooks.outbox import Item, Settled
from stream.hooks.schedule import DEFAULT_SCHEDULE
from stream.outcomes import Delivery
from stream.records import rfc3339
from tests.stream.hooks.servers import alert, decision

BEGIN = 1_795_000_000.0


def logged(event: Event, state: Any, attempt: int, at: float, due: float | None = None) -> Delivery:
    settled = Settled(Item(event, attempt=attempt), state, None, due)
    return delivery_of("it", settled, None, None, rfc3339(int(at * 1000)))


def test_the_last_word_counts_and_the_first_time() -> None:
    event, other = decision(1), decision(2, "p2")
    memory = Memory(
        [
            logged(event, "retrying", 1, BEGIN, BEGIN + 5),
            logged(other, "delivered", 1, BEGIN),
            logged(event, "retrying", 2, BEGIN + 5, BEGIN + 305),
        ]
    )
    known = memory.of(event)
    assert known is not None
    assert (known.state, known.attempt) == ("retrying", 2)
    assert (known.since, known.due) == (BEGIN, BEGIN + 305)
    found = memory.of(other)
    assert found is not None
    assert found.state == "delivered"
    assert memory.of(decision(3)) is None


def test_another_record_at_the_same_place_is_not_the_same() -> None:
    """A topic that was made anew begins at offset 0 again."""
    memory = Memory([logged(decision(1), "delivered", 1, BEGIN)])
    assert memory.of(decision(1, decision_id="new")) is None


def test_an_alert_that_is_on_its_topic_twice_is_one() -> None:
    """Also where the first was handed over before a restart; firing and resolved are two."""
    memory = Memory([logged(alert(1), "delivered", 1, BEGIN)])
    assert not memory.repeats(alert(1)), "the same record, read once more"
    assert memory.repeats(alert(2))
    over = alert(3, "resolved")
    assert [memory.repeats(each) for each in (over, over, alert(4, "resolved"))] == [
        False,
        False,
        True,
    ]
    assert not memory.repeats(alert(5, alert_id="toxicity/tag=news/2"))
    assert not memory.repeats(decision(1))
    assert not memory.repeats(decision(2))


@given(st.integers(0, 9), st.floats(0, 500_000))
def test_the_schedule_goes_on_where_it_was_however_long_nobody_was_there(
    step: int, absent_s: float
) -> None:
    event = decision(1)
    due = BEGIN + absent_s
    item = Item(event, attempt=step + 1, step=step)
    last = delivery_of("it", Settled(item, "retrying", None, due + 5), None, None, _written(due))
    known = Memory([logged(event, "retrying", 1, BEGIN, BEGIN + 5), last]).of(event)
    assert known is not None
    assert known.step(DEFAULT_SCHEDULE) == step


def _written(at: float) -> str:
    return rfc3339(int(at * 1000))


@given(st.integers(1, 9), st.floats(-0.1, 0.1))
def test_a_log_of_an_earlier_version_tells_it_by_its_times(step: int, jitter: float) -> None:
    event = decision(1)
    due = BEGIN + sum(DEFAULT_SCHEDULE[: step + 1]) * (1 + jitter)
    log = [
        logged(event, "retrying", 1, BEGIN, BEGIN + 5),
        logged(event, "retrying", 99, due - 1, due),
    ]
    log = [msgspec.structs.replace(delivery, step=None) for delivery in log]
    known = Memory(log).of(event)
    assert known is not None
    assert known.step(DEFAULT_SCHEDULE) == step


@pytest.mark.parametrize("place", [Place("t.decisions", 3, 17), Place("a-b_c.d", 0, 0), None])
def test_a_delivery_knows_its_place(place: Place | None) -> None:
    event = decision(1)
    at = Event("decision", event.record, event.original, place)
    delivery = logged(at, "delivered", 1, BEGIN)
    assert place_of(delivery) == place
    assert delivery.delivery_id == delivery_id("it", at, 1)


def test_filters() -> None:
    delivery = logged(decision(1), "failed", 3, BEGIN)
    assert LogFilter()(delivery)
    assert LogFilter(targets=frozenset({"it"}), states=frozenset({"failed"}))(delivery)
    assert not LogFilter(targets=frozenset({"other"}))(delivery)
    assert not LogFilter(states=frozenset({"delivered"}))(delivery)
    assert LogFilter(ids=frozenset({"p1"}))(delivery)
    assert LogFilter(ids=frozenset({delivery.record_id}))(delivery)
    assert not LogFilter(ids=frozenset({"p2"}))(delivery)
    at = datetime.fromtimestamp(BEGIN, UTC)
    assert LogFilter(since=at)(delivery)
    assert not LogFilter(since=at.replace(year=2100))(delivery)


@given(st.text(), st.integers(1, 50))
def test_a_targets_log_has_one_partition(name: str, partitions: int) -> None:
    assert 0 <= log_partition(name, partitions) < partitions
