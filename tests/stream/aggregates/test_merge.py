"""The reader's side: the latest of each part, added up, whatever the order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from datasketches import frequent_strings_sketch

from stream.aggregates.merge import WindowKey, Windows, merged, window_of
from stream.aggregates.sketches import new_authors
from stream.outcomes import METRIC_SCHEMA, Metric

START = 1_780_000_000
KEY = WindowKey(START, 10, "source", "forum")


def metric(**values: Any) -> Metric:
    defaults: dict[str, Any] = {
        "schema": METRIC_SCHEMA,
        "start": START,
        "width_s": 10,
        "by": "source",
        "group": "forum",
        "partition": 0,
        "revision": 1,
        "posts": 0,
    }
    return Metric(**{**defaults, **values})


def authors(*names: str) -> bytes:
    sketch = new_authors()
    for name in names:
        sketch.update(name)
    compact: bytes = sketch.serialize_compact()
    return compact


def items(**counts: int) -> bytes:
    sketch = frequent_strings_sketch(6)
    for item, n in counts.items():
        sketch.update(item, n)
    serialised: bytes = sketch.serialize()
    return serialised


PARTS = [
    metric(posts=9, positive=1, neutral=2, negative=6, toxic=3, authors=authors("a", "b")),
    metric(
        partition=1, posts=1, positive=1, authors=authors("b", "c"), terms=items(tide=4, gate=1)
    ),
    metric(of="decisions", posts=0, actions={"hide": 2, "allow": 8}, terms=items(gate=5)),
]


def test_parts_are_added_up_and_sketches_merged() -> None:
    window = window_of(KEY, PARTS)
    assert (window.posts, window.positive, window.neutral, window.negative) == (10, 2, 2, 6)
    assert window.net_sentiment == pytest.approx(-0.4)
    assert window.toxicity_rate == pytest.approx(0.3)
    assert window.posts_per_s == 1.0
    assert window.authors.estimate == 3
    assert window.actions == {"hide": 2, "allow": 8}
    assert window.action_rate("hide") == pytest.approx(0.2)
    assert [(r.item, r.posts) for r in window.top_terms()] == [("gate", 6), ("tide", 4)]
    assert window.top_tags() == []


def test_nothing_judged_is_no_rate() -> None:
    window = window_of(KEY, [metric()])
    assert window.net_sentiment is window.toxicity_rate is window.unsupported_rate is None
    assert window.action_rate("hide") is None
    assert window.authors.estimate == 0


def test_the_highest_revision_of_each_part_counts_in_any_order() -> None:
    records = [
        metric(partition=p, of=of, revision=r, posts=100 * p + r)
        for p in range(3)
        for of in ("labels", "decisions")
        for r in range(1, 6)
    ]
    for seed in range(20):
        random.Random(seed).shuffle(records)
        windows = Windows()
        for record in [*records, *records[: seed * 2]]:
            windows.add(record)
        found = windows.get(KEY)
        assert found is not None
        assert found.posts == 2 * (5 + 105 + 205)


def test_an_older_revision_changes_nothing_and_says_so() -> None:
    windows = Windows()
    assert windows.add(metric(revision=5, posts=5)) == KEY
    assert windows.add(metric(revision=4, posts=4)) is None
    assert windows.add(metric(revision=5, posts=6)) == KEY, "the same revision, written again"
    found = windows.get(KEY)
    assert found is not None
    assert found.posts == 6


def test_series_groups_and_forgetting() -> None:
    windows = Windows()
    for start in (30, 10, 20):
        windows.add(metric(start=start, posts=start))
    windows.add(metric(start=10, group="blog"))
    windows.add(metric(start=0, width_s=60, by="all", group="all"))
    assert [w.posts for w in windows.series(10, "source", "forum", since=20)] == [20, 30]
    assert [w.posts for w in windows.series(10, "source", "forum", until=30)] == [10, 20]
    assert windows.groups(10, "source") == ["blog", "forum"]
    assert windows.groups(10, "source", start=20) == ["forum"]
    windows.forget(before=30)
    assert sorted(key.start for key in windows.keys()) == [0, 30]  # noqa: SIM118 - not a dict
    assert windows.groups(10, "source") == ["forum"]
    assert windows.get(WindowKey(10, 10, "source", "forum")) is None


def test_windows_of_one_group_merge_to_a_longer_one() -> None:
    windows = Windows()
    windows.add(metric(start=10, posts=1, toxic=1, authors=authors("a")))
    windows.add(metric(start=30, posts=3, authors=authors("a", "b")))
    both = merged(windows.series(10, "source", "forum"))
    assert both is not None
    assert both.key == WindowKey(10, 30, "source", "forum")
    assert (both.posts, both.toxicity_rate, both.authors.estimate) == (4, 0.25, 2)
    assert merged([]) is None
