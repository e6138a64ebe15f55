"""Charts of how models score: data in, an Altair chart out; every axis has its unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import altair as alt
import pandas as pd

from dashboard.charts import BLUE, GREY, ORANGE, SKY
from dashboard.trend_charts import framed
from models.dev_scores import Reliable

_HEIGHT: Final = 210
_WIDE: Final = 5


def reliability_chart(points: Sequence[Reliable], *, dark: bool) -> Any:
    """How often a label was true, by the score given; the diagonal is where both are equal."""
    data = pd.DataFrame(
        [(point.said, point.so, point.rows) for point in points], columns=["said", "so", "rows"]
    )
    share = alt.Axis(format="%", tickCount=5)
    unit = alt.Scale(domain=[0, 1])
    diagonal = (
        alt.Chart(pd.DataFrame({"said": [0, 1], "so": [0, 1]}))
        .mark_line(color=GREY, strokeDash=[4, 4])
        .encode(
            x=alt.X("said:Q", title="score given (mean of the bin)", axis=share, scale=unit),
            y=alt.Y("so:Q", title="of dev rows it was so", axis=share, scale=unit),
        )
    )
    base = alt.Chart(data).encode(
        x=alt.X("said:Q", axis=share, scale=unit),
        y=alt.Y("so:Q", axis=share, scale=unit),
        tooltip=[
            alt.Tooltip("said:Q", title="score given", format=".1%"),
            alt.Tooltip("so:Q", title="it was so", format=".1%"),
            alt.Tooltip("rows:Q", format=","),
        ],
    )
    colour = SKY if dark else BLUE
    line = base.mark_line(color=colour, strokeWidth=2)
    dots = base.mark_circle(color=colour, opacity=0.9).encode(
        size=alt.Size("rows:Q", legend=None, scale=alt.Scale(range=[30, 220]))
    )
    return framed([diagonal, line, dots], _HEIGHT)


def distribution_chart(dev: Sequence[int], live: Sequence[int], name: str, *, dark: bool) -> Any:
    """Scores on dev rows beside those of a period, as shares, in steps of five hundredths."""
    rows = []
    for what, counts in (("dev rows", dev), (f"last {name}", live)):
        total = sum(counts) or 1
        for start in range(0, len(counts), _WIDE):
            share = sum(counts[start : start + _WIDE]) / total
            rows.append({"score": start / 100, "of": what, "share": share})
    names = ["dev rows", f"last {name}"]
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("score:Q", title="score", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("share:Q", title="of posts or rows", axis=alt.Axis(format="%", tickCount=4)),
            color=alt.Color(
                "of:N",
                title=None,
                scale=alt.Scale(domain=names, range=[ORANGE, SKY if dark else BLUE]),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash(
                "of:N", scale=alt.Scale(domain=names, range=[[5, 3], [1, 0]]), legend=None
            ),
            tooltip=[
                alt.Tooltip("of:N", title="of"),
                alt.Tooltip("score:Q", title="from", format=".2f"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    return framed([chart], _HEIGHT)
