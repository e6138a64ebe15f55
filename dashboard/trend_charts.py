"""The charts of the Trends page: data in, an Altair chart out; times are UTC, axes have units."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import altair as alt
import pandas as pd

from dashboard.charts import AT_TOP, BLUE, GREY, ORANGE, SKY, VERMILLION
from dashboard.period import Period
from dashboard.queries.alerts import AlertView
from dashboard.queries.trends import Figures, Step
from dashboard.trend_metrics import TrendMetric

_HEIGHT: Final = 210
_FORMATS: Final = {"count": ",.0f", "share": ".1%", "points": "+.1f"}


def metric_chart(
    steps: Sequence[Step],
    metric: TrendMetric,
    period: Period,
    alerts: Sequence[AlertView],
    *,
    now_s: int,
    dark: bool,
) -> Any:
    """A metric over the period, the period before as a dashed line, alerts as marks."""
    scale = 100 if metric.kind == "points" else 1
    filled = _filled([(step.start_s, step.now) for step in steps], period, now_s)
    rows = []
    for step in steps:
        done = step.start_s in filled
        for line, figures in (("this period", step.now), (period.before, step.before)):
            value = metric.value(figures) if done or line != "this period" else None
            rows.append(
                {
                    "at": _utc(step.start_s),
                    "when": f"{_utc(step.start_s - (0 if line == 'this period' else period.length_s)):%Y-%m-%d %H:%M UTC}",
                    "line": line,
                    "value": None if value is None else value * scale,
                    "posts": figures.posts,
                }
            )
    data = pd.DataFrame(rows)
    names = ["this period", period.before]
    line_axis = alt.Y(
        "value:Q",
        title=_unit(metric, period),
        axis=alt.Axis(format=_axis_format(metric), tickCount=5),
        stack=None,
    )
    base = alt.Chart(data).encode(x=_time("at", period))
    colour = alt.Color(
        "line:N",
        title=None,
        scale=alt.Scale(domain=names, range=[SKY if dark else BLUE, GREY]),
        legend=alt.Legend(orient="top", symbolType="stroke", padding=0, labelLimit=260),
    )
    lines = base.mark_line(strokeWidth=2, interpolate="monotone").encode(
        y=line_axis,
        color=colour,
        strokeDash=alt.StrokeDash(
            "line:N", scale=alt.Scale(domain=names, range=[[1, 0], [5, 4]]), legend=None
        ),
        tooltip=[
            alt.Tooltip("when:N", title="from"),
            alt.Tooltip("line:N", title="line"),
            alt.Tooltip("value:Q", title=metric.name, format=_FORMATS[metric.kind]),
            alt.Tooltip("posts:Q", format=","),
        ],
    )
    area = (
        base.transform_filter("datum.line === 'this period'")
        .mark_area(opacity=0.12, interpolate="monotone", color=SKY if dark else BLUE)
        .encode(y=line_axis)
    )
    marks = _alert_marks(alerts, period) if alerts else []
    # Put together in one step: each one copies all there is so far.
    return framed([area, lines, *marks] if metric.kind != "points" else [lines, *marks], _HEIGHT)


def _alert_marks(alerts: Sequence[AlertView], period: Period) -> list[Any]:
    """A line where each alert began and a bell over it; the tooltip says which."""
    data = pd.DataFrame(
        {
            "at": [_utc(alert.started_ms // 1000) for alert in alerts],
            "when": [f"{_utc(alert.started_ms // 1000):%Y-%m-%d %H:%M:%S UTC}" for alert in alerts],
            "rule": [alert.alert.rule for alert in alerts],
            "severity": [alert.alert.severity for alert in alerts],
            "summary": [alert.alert.summary for alert in alerts],
            "sign": ["▲"] * len(alerts),
        }
    )
    tips = [
        alt.Tooltip("when:N", title="alert began"),
        alt.Tooltip("rule:N"),
        alt.Tooltip("severity:N"),
        alt.Tooltip("summary:N"),
    ]
    base = alt.Chart(data).encode(x=_time("at", period), tooltip=tips)
    rules = base.mark_rule(color=ORANGE, strokeWidth=1.5, strokeDash=[2, 2])
    signs = base.mark_text(color=VERMILLION, fontSize=13, dy=-4, baseline="bottom").encode(
        y=AT_TOP, text=alt.Text("sign:N")
    )
    return [rules, signs]


def voice_chart(
    lines: Sequence[tuple[str, Sequence[tuple[int, Figures]]]], period: Period, now_s: int
) -> Any:
    """Posts of each topic over the period."""
    data = pd.DataFrame(
        [
            {
                "at": _utc(start),
                "when": f"{_utc(start):%Y-%m-%d %H:%M UTC}",
                "topic": name,
                "posts": figures.posts,
            }
            for name, steps in lines
            for filled in (_filled(steps, period, now_s),)
            for start, figures in steps
            if start in filled
        ]
    )
    names = [name for name, _ in lines]
    chart = (
        alt.Chart(data)
        .mark_line(strokeWidth=2, interpolate="monotone")
        .encode(
            x=_time("at", period),
            y=alt.Y(
                "posts:Q",
                title=f"posts per {step_words(period.step_s)}",
                axis=alt.Axis(tickCount=4, tickMinStep=1),
            ),
            color=alt.Color(
                "topic:N", title=None, sort=names, legend=alt.Legend(orient="top", labelLimit=160)
            ),
            strokeDash=alt.StrokeDash("topic:N", sort=names, legend=None),
            tooltip=[
                alt.Tooltip("when:N", title="from"),
                alt.Tooltip("topic:N"),
                alt.Tooltip("posts:Q", format=","),
            ],
        )
    )
    return framed([chart], 170)


def _filled(steps: Sequence[tuple[int, Figures]], period: Period, now_s: int) -> set[int]:
    """The beginnings of the steps to draw.

    The one that is still filling would look like a fall, unless there is nothing before it to fall
    from: then it is all there is.
    """
    done = {start for start, _ in steps if start + period.step_s <= now_s}
    if any(figures.posts for start, figures in steps if start in done):
        return done
    return {start for start, _ in steps}


def framed(layers: Sequence[Any], height: int) -> Any:
    """The layers as a chart without the air that a card around it gives already."""
    return alt.layer(
        *layers,
        height=height,
        padding={"left": 0, "right": 6, "top": 14, "bottom": 0},
        config=alt.Config(
            axis=alt.AxisConfig(titlePadding=4, labelPadding=4, titleFontSize=11, labelFontSize=11)
        ),
    )


def step_words(step_s: int) -> str:
    """A step's width in words."""
    for unit, width in (("day", 86_400), ("h", 3600), ("min", 60)):
        if step_s % width == 0:
            n = step_s // width
            return unit if n == 1 else f"{n} {unit}"
    return f"{step_s} s"


def _unit(metric: TrendMetric, period: Period) -> str:
    return f"posts per {step_words(period.step_s)}" if metric.kind == "count" else metric.title


def _axis_format(metric: TrendMetric) -> str:
    return {"count": "~s", "share": "%", "points": "+d"}[metric.kind]


def _time(field: str, period: Period) -> Any:
    if period.length_s <= 86_400:
        shown = "%H:%M"
    else:
        shown = "%d %b %H:%M" if period.length_s <= 3 * 86_400 else "%d %b"
    return alt.X(
        f"{field}:T",
        title="time (UTC)",
        scale=alt.Scale(type="utc", nice=False),
        axis=alt.Axis(format=shown, tickCount=7, labelOverlap=True, grid=False),
    )


def _utc(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
