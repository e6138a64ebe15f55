"""The queue of one target: order, retries, rate, batches, breaker, by a clock of the test's."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.hooks.breaker import Breaker
from stream.hooks.outbox import Item, Limits, Outbox
from stream.hooks.schedule import DEFAULT_SCHEDULE, JITTER, patience_s
from stream.hooks.verdict import Outcome, Verdict
from tests.stream.hooks.servers import decision

DELIVERED = Verdict(Outcome.DELIVERED, 204)
FAILED = Verdict(Outcome.FAILED, 500, "HTTP 500")
REFUSED = Verdict(Outcome.REFUSED, 400, "HTTP 400")
EVENTS = [decision(number, f"p{number % 5}") for number in range(40)]


def outbox(**limits: object) -> Outbox:
    return Outbox(Limits(**limits), spread=lambda: 0.5)  # type: ignore[arg-type] # by keyword


def put(box: Outbox, *numbers: int, now: float = 0.0) -> list[Item]:
    items = [Item(EVENTS[number], due=now, since=now) for number in numbers]
    for item in items:
        box.put(item)
    return items


outcomes = st.sampled_from(
    [
        DELIVERED,
        FAILED,
        REFUSED,
        Verdict(Outcome.SLOW_DOWN, 429, "HTTP 429", 3.0),
        Verdict(Outcome.FAILED, 503, "HTTP 503", 2.0),
    ]
)


@settings(deadline=None)
@given(
    numbers=st.permutations(range(20)).map(sorted),
    verdicts=st.lists(outcomes, max_size=60),
    concurrency=st.integers(1, 4),
    batch=st.integers(1, 4),
    per_s=st.sampled_from([None, 1.0, 50.0]),
    seed=st.integers(0, 1000),
)
def test_each_subject_in_order_each_item_once_and_never_more_than_allowed(
    *,
    numbers: list[int],
    verdicts: list[Verdict],
    concurrency: int,
    batch: int,
    per_s: float | None,
    seed: int,
) -> None:
    """Whatever the target answers, in whatever order the answers come."""
    chance = random.Random(seed)
    box = Outbox(
        Limits(
            concurrency=concurrency, batch=batch, batch_s=1.0, per_s=per_s, schedule=(0, 5, 60),
            failures=2, open_s=10, most_open_s=40,
        ),
        spread=chance.random,
    )  # fmt: skip
    items = put(box, *numbers)
    now = 0.0
    out: list[list[Item]] = []
    resolved: list[Item] = []
    answers = iter(verdicts)
    for _ in range(5000):
        if len(resolved) == len(items):
            break
        while taken := box.take(now):
            assert len(taken) <= batch
            out.append(taken)
        assert len(out) <= concurrency
        subjects = [item.event.subject for taken in out for item in taken]
        assert len(set(subjects)) == len(subjects), "two of one subject are out"
        if out:
            taken = out.pop(chance.randrange(len(out)))
            settled = box.settle(taken, next(answers, DELIVERED), now)
            resolved += [each.item for each in settled if each.state != "retrying"]
        else:
            wait_s = box.wait_s(now)
            assert wait_s is not None, "nothing is out and nothing will be"
            now += max(wait_s, 1e-6)
    assert len(set(map(id, resolved))) == len(items)
    assert len(box) == 0
    for subject in {item.event.subject for item in items}:
        done = [i.event.place for i in resolved if i.event.subject == subject]
        assert done == sorted(done, key=lambda place: place.offset if place else 0)


def test_the_schedule_of_the_field_is_followed_to_its_end() -> None:
    box = outbox(schedule=DEFAULT_SCHEDULE, failures=1000)
    (item,) = put(box, 0)
    now, attempts = 0.0, []
    while len(box):
        now += box.wait_s(now) or 0.0
        taken = box.take(now)
        attempts.append(now)
        settled = box.settle(taken, FAILED, now)
    assert [b - a for a, b in itertools.pairwise(attempts)] == pytest.approx(
        list(DEFAULT_SCHEDULE[1:])
    )
    (last,) = settled
    assert (last.state, last.error, item.attempt) == ("failed", "HTTP 500", 10)


@pytest.mark.parametrize(("spread", "factor"), [(0.0, 1 - JITTER), (0.999999, 1 + JITTER)])
def test_delays_are_spread(spread: float, factor: float) -> None:
    box = Outbox(Limits(schedule=(0, 100, 100)), spread=lambda: spread)
    put(box, 0)
    (settled,) = box.settle(box.take(0.0), FAILED, 0.0)
    assert settled.next_at == pytest.approx(100 * factor, rel=1e-3)


def test_while_one_waits_the_others_go_on() -> None:
    box = outbox(schedule=(0, 300), concurrency=10, failures=100)
    put(box, 0, 1, 5, 10)  # 0, 5 and 10 are of one post
    first = box.take(0.0)
    assert [i.event for i in first] == [EVENTS[0]]
    box.settle(first, FAILED, 0.0)
    assert [i.event for i in box.take(0.0)] == [EVENTS[1]]
    assert box.take(0.0) == []
    assert [i.event for i in box.take(300.0)] == [EVENTS[0]]


def test_retry_after_holds_the_whole_target_and_costs_nothing_of_the_schedule() -> None:
    box = outbox(schedule=(0, 5), concurrency=4)
    items = put(box, 0, 1)
    for _ in range(20):
        now = box.breaker.failed + items[0].due
        first = box.take(now)
        (settled,) = box.settle(first, Verdict(Outcome.SLOW_DOWN, 429, "HTTP 429", 120.0), now)
        assert settled.state == "retrying"
        assert settled.next_at == now + 120
        assert box.take(now + 119) == []
        items[0].due = now + 120
        box._all_due(now + 120)
    assert items[0].step == items[1].step == 0


def test_a_target_that_is_gone_gets_nothing_more_and_keeps_its_records() -> None:
    box = outbox()
    put(box, 0, 1)
    (settled,) = box.settle(box.take(0.0), Verdict(Outcome.GONE, 410, "HTTP 410"), 0.0)
    assert settled.state == "retrying"
    assert settled.error == "the target is gone: HTTP 410"
    assert box.take(1e9) == []
    assert len(box) == 2


def test_what_waits_too_long_for_a_dead_target_is_given_up_in_order() -> None:
    box = outbox(schedule=(0, 5), failures=1, open_s=1e6, most_open_s=1e6)
    put(box, 0, 1, 5)
    box.settle(box.take(0.0), FAILED, 0.0)
    assert box.expire(patience_s((0, 5)) - 1) == []
    given_up = box.expire(patience_s((0, 5)) + 1)
    assert [each.item.event for each in given_up] == [EVENTS[0], EVENTS[5], EVENTS[1]]
    assert {(each.state, each.error) for each in given_up} == {
        ("failed", "the target did not come back in time")
    }
    assert len(box) == 0


def test_a_refused_batch_is_taken_apart_until_the_one_is_found() -> None:
    box = outbox(batch=10, batch_s=0, concurrency=1)
    items = put(box, 0, 1, 2)
    taken = box.take(0.0)
    assert taken == items
    assert box.settle(taken, REFUSED, 0.0) == []
    states = {}
    while taken := box.take(0.0):
        (item,) = taken
        (settled,) = box.settle(taken, REFUSED if item is items[1] else DELIVERED, 0.0)
        states[item.event.place] = (settled.state, item.attempt)
    assert [states[EVENTS[n].place] for n in (0, 1, 2)] == [
        ("delivered", 1),
        ("failed", 1),
        ("delivered", 1),
    ]


def test_a_batch_waits_for_company_and_not_for_ever() -> None:
    box = outbox(batch=3, batch_s=10.0)
    put(box, 0, 1)
    assert box.take(0.0) == []
    assert box.wait_s(0.0) == 10.0
    assert len(box.take(10.0)) == 2
    put(box, 2, 3, 4, now=20.0)
    assert len(box.take(20.0)) == 3


def test_the_rate_is_kept_and_bursts_no_further_than_a_second() -> None:
    box = outbox(per_s=2.0, concurrency=100)
    put(box, *range(20))
    now, at = 100.0, []
    for _ in range(500):
        if box.take(now):
            at.append(now)
        now += 0.05
    gaps = [b - a for a, b in zip(at, at[2:], strict=False)]
    assert len(at) >= 5
    assert min(gaps[1:]) > 0.9


def test_the_breaker_opens_tries_one_and_closes() -> None:
    box = outbox(
        schedule=(0, 100, 1000, 1000, 1000, 1000), failures=2, open_s=30, most_open_s=50,
        concurrency=5,
    )  # fmt: skip
    items = put(box, 0, 1, 2, 3)
    for _ in range(2):
        box.settle(box.take(0.0), FAILED, 0.0)
    assert box.breaker.state(0.0) == "open"
    assert box.take(29.0) == []
    # Half open: one, and while it is out no other; nobody's schedule is used up by it.
    trial = box.take(30.0)
    assert len(trial) == 1
    assert box.take(30.0) == []
    box.settle(trial, FAILED, 30.0)
    assert box.take(79.0) == []  # twice as long, but not longer than `most_open_s`
    trial = box.take(80.0)
    box.settle(trial, DELIVERED, 80.0)
    # It is back: what waited for its own time need not.
    rest = [box.take(80.0) for _ in range(3)]
    assert all(rest)
    assert {i.event.subject for taken in rest for i in taken} | {trial[0].event.subject} == {
        i.event.subject for i in items
    }


def test_a_trial_ahead_of_its_time_uses_up_nothing() -> None:
    box = outbox(schedule=(0, 1000, 1000), failures=1, open_s=10, most_open_s=10)
    (item,) = put(box, 0)
    box.settle(box.take(0.0), FAILED, 0.0)
    for now in (10.0, 20.0, 30.0, 40.0):
        (settled,) = box.settle(box.take(now), FAILED, now)
        assert settled.next_at == 1000.0
    assert (item.step, item.attempt) == (1, 5)


def test_discarded_items_are_neither_sent_nor_resolved() -> None:
    box = outbox(concurrency=2)
    items = put(box, 0, 5, 1)
    out = box.take(0.0)
    box.discard(lambda item: item is not items[1])
    assert [settled.state for settled in box.settle(out, DELIVERED, 0.0)] == ["delivered"]
    assert box.take(0.0) == [items[1]]
    assert len(box) == 1


def test_breaker_counts_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=2, open_s=1, most_open_s=1)
    breaker.failure(0)
    breaker.success()
    breaker.failure(0)
    assert breaker.state(0) == "closed"
    breaker.failure(0)
    assert breaker.state(0.5) == "open"
    assert breaker.state(1) == "half-open"
