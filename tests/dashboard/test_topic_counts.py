"""Topics are counted beside the pages: all posts, each once, and anew when posts were taken back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from dashboard.queries.brands import parse_query
from dashboard.queries.trends import NOTHING, Figures
from dashboard.scope import EVERYTHING, Scope
from dashboard.store import Store
from dashboard.topic_counts import Known, TopicCounts
from stream.database_url import ReadModelAt
from tests.dashboard.conftest import asking, batch_of
from tests.dashboard.label_feed import label_of, stream_of

START_MS = 1_795_000_000_000
TRAMS = parse_query("tram OR library")
GARDENS = parse_query("garden -neighbour")


def until(counts: TopicCounts, right: Callable[[Known], bool], query: object = TRAMS) -> Known:
    """What is known once it is right."""
    deadline = time.monotonic() + 30
    while True:
        counts.ask([TRAMS, GARDENS])
        known = counts.known(query, 300, EVERYTHING)  # type: ignore[arg-type] # one of the two
        if known.whole and right(known):
            return known
        assert time.monotonic() < deadline, known


def total(known: Known) -> Figures:
    return known.within(0, 2**40)


def test_every_post_held_is_counted_once(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.topic_counts._CHUNK", 7)
    counts = TopicCounts(place)
    counts.ask([TRAMS])
    assert counts.known(TRAMS, 300, EVERYTHING).by_step == {}, "there is no read model yet"
    made = list(stream_of(120, start_ms=START_MS, posts_per_s=0.05))
    with Store(place) as store:
        store.apply(batch_of(made[:80]))
        until(counts, lambda known: known.held == 80)
        store.apply(batch_of(made))
        known = until(counts, lambda known: known.held == 120)
        with asking(place) as ask:
            rows = ask("SELECT language, sentiment, toxicity, text FROM posts")
        meant = [row for row in rows if TRAMS.matches(row[3])]
        assert 0 < len(meant) < len(rows)
        assert total(known) == (
            len(meant),
            *(sum(row[1] == name for row in meant) for name in ("positive", "neutral", "negative")),
            sum(row[2] not in ("", "none") for row in meant),
        )
        first = START_MS // 1000 // 300 * 300
        halves = [known.within(first, first + 1200), known.within(first + 1200, 2**40)]
        assert sum(half.posts for half in halves) == len(meant)
        german = counts.known(TRAMS, 300, Scope(languages=("de",)))
        assert total(german).posts == sum(row[0] == "de" for row in meant)
        assert total(counts.known(TRAMS, 300, Scope(sources=("nowhere",)))) == NOTHING
        assert total(until(counts, lambda _: True, GARDENS)).posts == sum(
            GARDENS.matches(row[3]) for row in rows
        )


def test_a_post_that_was_taken_back_is_no_longer_counted(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    counts = TopicCounts(place)
    post = label_of(0, posted_ms=START_MS, rng=rng, post_id="p", text="the tram is late")
    gone = label_of(4, posted_ms=START_MS + 1, rng=rng, post_id="p", retracted=True)
    with Store(place) as store:
        store.apply(batch_of([post]))
        until(counts, lambda known: total(known).posts == 1)
        store.apply(batch_of([gone]))
    monkeypatch.setattr("dashboard.topic_counts._FRESH_S", 0.0)
    until(counts, lambda known: total(known).posts == 0)


def test_what_is_not_counted_yet_is_said() -> None:
    known = Known({}, 20_000, 1_000_000)
    assert not known.whole
    assert known.within(0, 10) == NOTHING
