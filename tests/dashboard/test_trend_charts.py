"""Which steps of a series a chart draws."""

from __future__ import annotations

from typing import Any

from dashboard.period import Period
from dashboard.queries.trends import Figures, Step
from dashboard.trend_charts import metric_chart
from dashboard.trend_metrics import METRICS

NONE = Figures(0, 0, 0, 0, 0)
SOME = Figures(40, 10, 10, 20, 8)
PERIOD = Period(0, 3600, 900, "1 h")


def _drawn(*now: Figures) -> list[float]:
    """The values of this period that are drawn; the last step is still filling."""
    steps = [Step(900 * n, figures, NONE) for n, figures in enumerate(now)]
    chart: Any = metric_chart(steps, METRICS["Volume"], PERIOD, (), now_s=3000, dark=False)
    rows: Any = chart.data
    ours = rows[rows["line"] == "this period"]
    return [float(value) for value in ours["value"].dropna()]


def test_a_step_that_is_still_filling_is_not_a_fall() -> None:
    assert _drawn(SOME, SOME, SOME, Figures(3, 1, 1, 1, 0)) == [40, 40, 40]


def test_a_stream_that_has_just_begun_is_drawn() -> None:
    assert _drawn(NONE, NONE, NONE, SOME) == [0, 0, 0, 40]
