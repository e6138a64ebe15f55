from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.projection import WIDTHS_S
from dashboard.queries import trends
from dashboard.reader import open_reader
from dashboard.scope import EVERYTHING, Scope
from dashboard.store import Store
from dashboard.stretches import KEPT_WIDTHS_S, parts_of, widths_within
from stream.database_url import PostgresUrl, ReadModelAt
from tests.dashboard.conftest import NewPlace, asking, batch_of, tampered
from tests.dashboard.label_feed import stream_of

START_S = 1_795_000_000
SPAN_S = 5 * 86_400


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, len(WIDTHS_S)))
def test_parts_lie_side_by_side_and_are_few(begin: int, length: int, first: int) -> None:
    widths = WIDTHS_S[first - 1 :]
    end = begin + length
    parts = parts_of(begin, end, widths)
    assert [part.to_s for part in parts[:-1]] == [part.from_s for part in parts[1:]]
    if parts:
        assert parts[0].from_s == begin - begin % widths[0]
        assert parts[-1].to_s == end
    assert all(part.from_s % part.width_s == 0 for part in parts)
    # Up to the widest and down again: each width at most twice.
    order = [widths.index(part.width_s) for part in parts]
    top = order.index(max(order)) if order else 0
    assert all(a < b for a, b in pairwise(order[: top + 1]))
    assert all(a > b for a, b in pairwise(order[top:]))


def test_steps_are_made_of_the_rollups_that_divide_them() -> None:
    assert widths_within(10) == (10,)
    assert widths_within(60) == (10,)
    assert widths_within(900) == (300,)
    assert widths_within(7200) == (300, 3600)
    assert widths_within(7 * 86_400) == KEPT_WIDTHS_S


@pytest.fixture(scope="module")
def filled(new_place: NewPlace) -> ReadModelAt:
    at = new_place()
    with Store(at) as store:
        store.apply(batch_of(stream_of(900, start_ms=START_S * 1000, posts_per_s=900 / SPAN_S)))
    return at


@pytest.mark.parametrize("scope", [EVERYTHING, Scope(languages=("en", "de"))])
def test_hours_and_days_say_what_the_five_minutes_say(filled: ReadModelAt, scope: Scope) -> None:
    where, names = scope.where()
    with open_reader(filled) as reader:
        assert reader is not None
        for from_s, length in ((0, SPAN_S), (700, 86_400), (90_000, 180_000), (3600, 7200), (1, 9)):
            begin, end = START_S + from_s, START_S + from_s + length
            coarse = begin - begin % 300
            expected = reader.db.execute(
                "SELECT coalesce(sum(posts), 0) FROM rollups WHERE width_s = 300"
                f" AND start_s >= ? AND start_s < ?{where}",
                [coarse, end, *names],
            ).fetchone()[0]
            assert expected > 0 or length < 300
            assert trends.comparison(reader.db, begin, end, scope=scope)[0].posts == expected
            shares = reader.shares("language", scope, coarse, end)
            assert sum(posts for _, posts, _ in shares) == expected
            assert (
                sum(
                    g.now.posts
                    for g in trends.groups(reader.db, "language", begin, end, scope=scope)
                )
                == expected
            )
            steps = trends.series(reader.db, coarse - coarse % 7200, end, 7200, scope=scope)
            assert sum(step.now.posts for step in steps) >= expected


def test_a_read_model_without_hours_days_and_totals_gets_them(new_place: NewPlace) -> None:
    at = new_place()
    made = list(stream_of(400, start_ms=START_S * 1000, posts_per_s=0.002))
    with Store(at) as store:
        store.apply(batch_of(made))
    counted = ("rollups ORDER BY 1, 2, 3, 4, 5, 6", "score_totals ORDER BY 1, 2, 3, 4")
    with asking(at) as ask:
        before = [ask(f"SELECT * FROM {table}") for table in counted]
    assert all(before)
    postgres = isinstance(at, PostgresUrl)
    tampered(
        at,
        "DELETE FROM rollups WHERE width_s > 300",
        "DROP TABLE score_totals",
        "DROP INDEX metrics_counts",
        "UPDATE read_model SET version = 3" if postgres else "PRAGMA user_version = 3",
    )
    with Store(at):
        pass
    with asking(at) as ask:
        assert [ask(f"SELECT * FROM {table}") for table in counted] == before
