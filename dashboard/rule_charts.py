"""Charts of rules and of scores: data in, an Altair chart out; every axis has its unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import altair as alt
import pandas as pd

from dashboard.charts import BLUE, GREY, ORANGE, SKY, VERMILLION
from dashboard.queries.rules import HOUR_S, RuleHour
from dashboard.queries.scores import Histogram

_HEIGHT: Final = 150


def matches_chart(hours: Sequence[RuleHour], from_s: int, to_s: int, *, dark: bool) -> Any:
    """A rule's matches by hour, live and shadow on top of each other."""
    found: dict[tuple[int, str], int] = {}
    for hour in hours:
        found[hour.start_s, hour.mode] = found.get((hour.start_s, hour.mode), 0) + hour.matches
    rows = [
        {
            "at": datetime.fromtimestamp(start, UTC),
            "end": datetime.fromtimestamp(start + HOUR_S, UTC),
            "when": f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d %H:%M UTC}",
            "mode": mode,
            "matches": found.get((start, mode), 0),
            "below": 0 if mode == "live" else found.get((start, "live"), 0),
            "top": found.get((start, "live"), 0)
            + (0 if mode == "live" else found.get((start, mode), 0)),
        }
        for start in range(from_s, to_s, HOUR_S)
        for mode in ("live", "shadow")
    ]
    highest = max(
        (found.get((at, "live"), 0) + found.get((at, "shadow"), 0) for at, _ in found), default=0
    )
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_rect(stroke=None)
        .encode(
            x=alt.X(
                "at:T",
                title="hour posted (UTC)",
                scale=alt.Scale(type="utc", nice=False),
                axis=alt.Axis(format="%H:%M", tickCount=6, grid=False),
            ),
            x2=alt.X2("end:T"),
            y=alt.Y(
                "top:Q",
                title="posts an hour",
                # Without one match there is no scale to choose.
                scale=alt.Scale(domain=[0, max(highest, 4)]),
                axis=alt.Axis(tickCount=4, tickMinStep=1, format="~s"),
            ),
            y2=alt.Y2("below:Q"),
            color=alt.Color(
                "mode:N",
                title=None,
                scale=alt.Scale(domain=["live", "shadow"], range=[SKY if dark else BLUE, GREY]),
                legend=alt.Legend(orient="top", padding=0),
            ),
            tooltip=[
                alt.Tooltip("when:N", title="from"),
                alt.Tooltip("mode:N"),
                alt.Tooltip("matches:Q", format=","),
            ],
        )
    )
    return framed(chart, _HEIGHT)


def score_chart(histogram: Histogram, at: float, model: float | None, *, dark: bool) -> Any:
    """Posts by score, those a threshold would flag marked; the models' own threshold beside it."""
    bins = len(histogram.counts)
    data = pd.DataFrame(
        {
            "from": [n / bins for n in range(bins)],
            "to": [(n + 1) / bins for n in range(bins)],
            # A logarithmic axis has no zero; an empty bin has no bar.
            "posts": [count or None for count in histogram.counts],
            "side": [
                "would be flagged" if n / bins >= at - 1e-9 else "left alone" for n in range(bins)
            ],
        }
    )
    bars = (
        alt.Chart(data)
        .mark_bar(binSpacing=0.5)
        .encode(
            x=alt.X(
                "from:Q",
                title=f"score of {histogram.label} (0 to 1)",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(tickCount=10, grid=False),
            ),
            x2=alt.X2("to:Q"),
            y=alt.Y(
                "posts:Q",
                title="posts (log)",
                scale=alt.Scale(type="log", domainMin=0.7),
                axis=alt.Axis(format="~s", values=[1, 10, 100, 1000, 10_000, 100_000, 1_000_000]),
            ),
            y2=alt.datum(0.7),
            color=alt.Color(
                "side:N",
                title=None,
                scale=alt.Scale(
                    domain=["would be flagged", "left alone"],
                    range=[VERMILLION, SKY if dark else BLUE],
                ),
                legend=alt.Legend(orient="top", padding=0),
            ),
            tooltip=[
                alt.Tooltip("from:Q", title="score from", format=".2f"),
                alt.Tooltip("posts:Q", format=","),
                alt.Tooltip("side:N", title="at this threshold"),
            ],
        )
    )
    marks = [(at, "this threshold")]
    if model is not None:
        marks.append((model, "the model's own"))
    lines = pd.DataFrame(
        [{"at": x, "word": word, "row": 14 * n} for n, (x, word) in enumerate(marks)]
    )
    rule = (
        alt.Chart(lines)
        .mark_rule(strokeWidth=2, strokeDash=[5, 3])
        .encode(
            x=alt.X("at:Q"),
            color=alt.ColorValue(ORANGE),
            tooltip=[alt.Tooltip("word:N", title="line"), alt.Tooltip("at:Q", format=".3f")],
        )
    )
    words = (
        alt.Chart(lines)
        .mark_text(align="left", dx=4, dy=6, fontSize=11, baseline="top", color=ORANGE)
        .encode(x=alt.X("at:Q"), y=alt.Y("row:Q", scale=None, axis=None), text=alt.Text("word:N"))
    )
    return framed(bars + rule + words, 200)


def framed(chart: Any, height: int) -> Any:
    """The chart without the air that a card around it gives already."""
    return chart.properties(
        height=height, padding={"left": 0, "right": 6, "top": 8, "bottom": 0}
    ).configure_axis(titlePadding=4, labelPadding=4, titleFontSize=11, labelFontSize=11)
