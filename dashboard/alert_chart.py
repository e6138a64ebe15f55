"""The chart that made an alert fire: what was seen, what was expected, the episode shaded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import altair as alt
import pandas as pd

from dashboard.alert_series import Series
from dashboard.charts import AT_LEFT, BLUE, GREEN, ORANGE, SKY, VERMILLION
from dashboard.rule_charts import framed
from stream.outcomes import Alert


def episode_chart(series: Series, alert: Alert, started_s: int, ended_s: int, *, dark: bool) -> Any:
    """The series with the episode behind it; the threshold and what was expected as lines."""
    share = series.unit == "share"
    data = pd.DataFrame(
        {
            "at": [_utc(second) for second, _ in series.points],
            "when": [f"{_utc(second):%Y-%m-%d %H:%M:%S UTC}" for second, _ in series.points],
            "value": [value for _, value in series.points],
        }
    )
    scale = alt.Scale(type="utc", nice=False)
    episode = (
        alt.Chart(pd.DataFrame([{"from": _utc(started_s), "to": _utc(ended_s)}]))
        .mark_rect(color=ORANGE, opacity=0.22)
        .encode(x=alt.X("from:T", scale=scale), x2=alt.X2("to:T"))
    )
    line = (
        alt.Chart(data)
        .mark_line(color=SKY if dark else BLUE, strokeWidth=2, interpolate="step-before")
        .encode(
            x=alt.X(
                "at:T",
                title="time (UTC)",
                scale=scale,
                axis=alt.Axis(format="%H:%M", tickCount=5, labelOverlap=True, grid=False),
            ),
            y=alt.Y(
                "value:Q",
                title=series.what if share else f"{series.what} in {series.window_s:,} s",
                axis=alt.Axis(tickCount=4, format=".0%" if share else "~s"),
            ),
            tooltip=[
                alt.Tooltip("when:N", title="up to"),
                alt.Tooltip("value:Q", title=series.what, format=".1%" if share else ",.1f"),
            ],
        )
    )
    layers = [episode, line]
    bounds = [
        (alert.threshold, "threshold", VERMILLION, [6, 3]),
        (alert.expected, "expected", GREEN, [2, 3]),
    ]
    for value, word, colour, dash in bounds:
        if value is None:
            continue
        bound = pd.DataFrame([{"value": value, "word": word}])
        layers.append(
            alt.Chart(bound)
            .mark_rule(color=colour, strokeDash=dash, strokeWidth=1.5)
            .encode(y=alt.Y("value:Q"), tooltip=[alt.Tooltip("word:N"), alt.Tooltip("value:Q")])
        )
        layers.append(
            alt.Chart(bound)
            .mark_text(align="left", baseline="bottom", dx=3, dy=-2, fontSize=11, color=colour)
            .encode(x=AT_LEFT, y=alt.Y("value:Q"), text=alt.Text("word:N"))
        )
    return framed(alt.layer(*layers), 150)


def _utc(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
