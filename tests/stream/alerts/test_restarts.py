"""What must change nothing about what fires: restarts, the order of metrics, a stricter rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.alerts.evaluator import Evaluator
from stream.alerts.history import History
from stream.alerts.memory import Places, read_hours, read_state, written_hours, written_state
from stream.alerts.rules import RuleSet, ThresholdRule
from stream.outcomes import Alert, Metric
from stream.records import encode
from tests.stream.alerts.streams import BEGIN, follow, metric, rules_of, run, waves

EVERY_KIND = """
rules:
  - {id: toxic, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s,
     resolve_after: 10s, cool_down: 0s, most: 2}
  - {id: everywhere, kind: threshold, measure: toxicity_rate, by: tag, over: 30%, window: 10s,
     together: true, cool_down: 30s, for: 10s}
  - {id: crowd, kind: change, measure: authors, by: tag, history: 5m, level: 30m, min_authors: 5,
     window: 10s}
  - {id: abuse, kind: change, measure: toxic, by: tag, history: 5m, level: 30m, min_authors: 5,
     window: 20s, direction: both}
  - {id: silent, kind: silence, by: tag, for: 30s, min_posts: 5}
  - {id: new, kind: new-term, min_authors: 5, history: 1m, window: 20s}
"""


def _restarted(
    rules: RuleSet, metrics: Sequence[Metric], kills: list[tuple[int, int]]
) -> list[Alert]:
    """Run with a restart before each of these metrics, from a memory so many metrics old."""
    published: dict[tuple[str, str], Alert] = {}
    doubled: list[Alert] = []
    evaluator, places = Evaluator(rules), Places()
    memories: list[tuple[int, list[bytes], list[bytes]]] = []
    at, plan = 0, dict(kills)
    hours: list[bytes] = []
    while at < len(metrics):
        if at in plan:
            age = plan.pop(at)
            state = [m for m in memories if m[0] <= max(0, at - age)]
            history = History(published.values())
            memory = read_state(state[-1][1]) if state else None
            if memory is None:
                evaluator, places, at = Evaluator(rules, history=history), Places(), 0
            else:
                seasons = read_hours(state[-1][2], rules)
                evaluator = Evaluator(rules, memory.state, history, seasons)
                places = Places(next_offset=memory.next_offset)
                places.marks.append((memory.state.tick or 0, memory.rewind_offset))
                for each in metrics[memory.rewind_offset : memory.next_offset]:
                    evaluator.fill(each)
                at = memory.next_offset
        for outcome in evaluator.add(metrics[at]):
            key = (outcome.alert.alert_id, outcome.alert.state)
            doubled += [outcome.alert] if key in published else []
            published[key] = outcome.alert
            evaluator.published(outcome.alert)
        places.read(at, evaluator.state.tick, rules.longest_s)
        at += 1
        hours += [encode(each) for each in written_hours(evaluator)]
        if at % 7 == 0:
            pieces = [encode(each) for each in written_state(evaluator, places, at)]
            memories.append((at, pieces, list(hours)))
    assert not doubled
    return list(published.values())


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kills=st.lists(st.tuples(st.integers(1, 950), st.integers(0, 120)), max_size=6),
)
# Back before the end of a group's part in a shared episode, when it has had one of its own since.
@example(seed=1393, kills=[(289, 59)])
def test_a_restart_at_any_point_gives_the_same_alerts(
    seed: int, kills: list[tuple[int, int]]
) -> None:
    rules = rules_of(EVERY_KIND)
    metrics = list(waves(seed, windows=80, groups=3))
    undisturbed = run(rules, metrics)
    assert sorted(map(encode, _restarted(rules, metrics, kills))) == sorted(
        map(encode, undisturbed)
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
def test_the_order_of_the_parts_of_a_tick_changes_nothing(seed: int, order: random.Random) -> None:
    metrics = [m for m in waves(seed, windows=60, groups=3) if m.revision % 2 == 0]
    windows: dict[int, list[Metric]] = {}
    for each in metrics:
        windows.setdefault(each.start, []).append(each)
    shuffled = []
    for start in sorted(windows):
        part = windows[start]
        order.shuffle(part)
        shuffled += [*part, part[0]]  # and a record twice
    straight = [each for start in sorted(windows) for each in sorted(windows[start], key=encode)]
    until = BEGIN + 700
    assert list(map(encode, run(EVERY_KIND, shuffled, until))) == list(
        map(encode, run(EVERY_KIND, straight, until))
    )


def _firing(rule: ThresholdRule, metrics: Sequence[Metric]) -> set[tuple[str, int]]:
    """The group and tick of all that is firing."""
    evaluator, firing = Evaluator(RuleSet((rule,))), set()
    for each in metrics:
        for outcome in evaluator.add(each):
            del outcome
        tick = evaluator.state.tick or 0
        firing |= {(group, tick) for (_, group), s in evaluator.state.standings.items() if s.active}
    return firing


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    over=st.floats(0.05, 0.6),
    stricter=st.floats(0, 0.3),
    least=st.integers(0, 30),
    more=st.integers(0, 20),
)
def test_a_stricter_threshold_never_fires_more(
    seed: int, over: float, stricter: float, least: int, more: int
) -> None:
    """Wherever the stricter rule fires the other fires, too: every moment of it."""
    metrics = list(waves(seed, windows=40, groups=2))
    common: dict[str, Any] = {"id": "a", "version": "1", "by": "tag", "window_s": 20, "most": 99}
    (loose,) = rules_of(
        f"rules: [{{id: a, kind: threshold, measure: toxicity_rate, by: tag, over: {over:.3f},"
        f" window: 20s, min_authors: {least}, most: 99, cool_down: 0s}}]"
    ).rules
    assert isinstance(loose, ThresholdRule)
    bound = (loose.over or 0) + stricter
    strict = replace(loose, over=bound, resolve_at=bound * 0.8, min_authors=least + more)
    assert common["id"] == loose.id
    assert _firing(strict, metrics) <= _firing(loose, metrics)


def test_a_record_that_was_sent_and_never_remembered_is_not_sent_again() -> None:
    """The memory is older than what was published, and late metrics tell another story now."""
    rules = rules_of(
        "rules: [{id: a, kind: threshold, measure: posts, over: 5, window: 10s, cool_down: 0s}]"
    )
    metrics = [metric(BEGIN + 10 * n, 10 if n > 3 else 1) for n in range(8)]
    (fired,) = run(rules, metrics)
    late = metric(BEGIN + 20, 9, partition=1)
    again = run(rules, [*metrics[:2], late, *metrics[2:]])
    assert again[0].alert_id != fired.alert_id
    known = Evaluator(rules, history=History([fired]))
    assert follow(known, [*metrics[:2], late, *metrics[2:]], None) == []
    (resolved,) = follow(known, [metric(BEGIN + 80 + 10 * n, 1) for n in range(3)], None)
    assert (resolved.alert_id, resolved.state) == (fired.alert_id, "resolved")
