"""Charts are checked against Vega-Lite's schema wherever tests draw them, and drawn alike without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd
import pytest
from altair.utils import schemapi
from streamlit.testing.v1 import AppTest

from dashboard import charts
from dashboard.drawing import draw_unchecked
from dashboard.reader import Bucket
from dashboard.waves import Wave

BUCKETS = [Bucket(900 * n, 20, 5, 5, 10, 4) for n in range(12)]
SHARES = [
    (code, 90 - n, n)
    for n, code in enumerate(["en", "de", "fr", "es", "ja", "pt", "it", "nl", "sv"])
]
MADE = {
    "abuse": lambda: charts.abuse_chart(BUCKETS, [Wave(900, 1800, 40, 20, 0.1)]),
    "sentiment": lambda: charts.sentiment_chart(BUCKETS, dark=False),
    "rate": lambda: charts.rate_chart([(b.start_s, b.posts) for b in BUCKETS], 900, dark=True),
    "language": lambda: charts.language_chart(SHARES, dark=False),
    "latency": lambda: charts.latency_chart([(0, 5.0, 9.0), (900, 6.0, 8.0)], dark=False),
}


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As in the dashboard's server."""
    draw_unchecked()
    yield
    schemapi.enable_debug_mode()


def _page() -> None:
    import altair as alt
    import pandas as pd

    from dashboard.drawing import show_chart

    data = pd.DataFrame({"at": [1.0]})
    mistaken = alt.Chart(data).mark_line().encode(x=alt.X("at:Q", title=[{"no": "title"}]))  # type: ignore[list-item]
    show_chart(mistaken, alt="a chart with a mistake in it")


def test_a_mistake_in_a_chart_is_found_where_tests_draw_it() -> None:
    test = AppTest.from_function(_page).run()
    assert "SchemaValidationError" in str(test.exception[0].proto)


@pytest.mark.usefixtures("unchecked")
def test_the_server_draws_without_the_check() -> None:
    assert not AppTest.from_function(_page).run().exception


@pytest.mark.parametrize("name", MADE)
def test_the_check_changes_nothing_of_a_chart(name: str, request: pytest.FixtureRequest) -> None:
    checked = _spec(MADE[name]())
    request.getfixturevalue("unchecked")
    assert _spec(MADE[name](), validate=False) == checked


def test_the_bar_of_the_other_languages_is_grey() -> None:
    color = _spec(charts.language_chart(SHARES, dark=False))["layer"][0]["encoding"]["color"]
    was = alt.condition("datum.rest", alt.value(charts.GREY), alt.value(charts.BLUE))
    plain = alt.Chart(pd.DataFrame({"rest": [True]})).mark_bar().encode(color=was)
    assert color == plain.to_dict()["encoding"]["color"]


def _spec(chart: Any, *, validate: bool = True) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict(validate=validate)
    return spec
