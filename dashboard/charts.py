"""The charts: data in, an Altair chart out. Times are UTC, every axis has its unit.

Colours are from Okabe and Ito's palette, told apart with any kind of colour vision; each colour
has its word in the legend or beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import altair as alt
import pandas as pd

from dashboard.languages import language_name
from dashboard.reader import Bucket
from dashboard.waves import Wave

VERMILLION: Final = "#D55E00"
ORANGE: Final = "#E69F00"
BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
GREY: Final = "#9AA5AD"

HEIGHT: Final = 168
TALL: Final = 190
#: Words along the edges of a chart. A channel made here is not looked for by name: as
#: `alt.value` or a string it would cost some milliseconds each time.
AT_TOP: Final = alt.YValue(0)  # type: ignore[no-untyped-call]  # Altair's own
AT_LEFT: Final = alt.XValue(0)  # type: ignore[no-untyped-call]
_TOP_LANGUAGES: Final = 7
#: Of the most frequent languages, where they lie on each other.
_MIX: Final = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7")
_OTHERS: Final = "others"
_WORDED_WAVES: Final = 3


def abuse_chart(buckets: Sequence[Bucket], waves: Sequence[Wave]) -> Any:
    """The share of posts with a toxicity label, waves marked."""
    data = _times([bucket.start_s for bucket in buckets])
    # A bucket without posts is a gap, not a share of nothing.
    data["share"] = [bucket.abusive / bucket.posts if bucket.posts else None for bucket in buckets]
    data["posts"] = [bucket.posts for bucket in buckets]
    data["abusive"] = [bucket.abusive for bucket in buckets]
    base = alt.Chart(data).encode(
        x=_time_axis(data), tooltip=_tips("abusive", "posts", share="share")
    )
    area = base.mark_area(color=VERMILLION, opacity=0.22, interpolate="monotone").encode(
        y=_share_axis("share", "of posts")
    )
    line = base.mark_line(color=VERMILLION, strokeWidth=2, interpolate="monotone").encode(
        y=_share_axis("share", "of posts")
    )
    return _compact(_marks(waves) + area + line if waves else area + line, HEIGHT)


def _marks(waves: Sequence[Wave]) -> Any:
    """A band behind each wave and its share over it."""
    marked = pd.DataFrame(
        {
            "from": [_utc(wave.from_s) for wave in waves],
            "to": [_utc(wave.to_s) for wave in waves],
            "middle": [_utc((wave.from_s + wave.to_s) // 2) for wave in waves],
            # Side by side more than a few words would run into each other.
            "word": [
                f"{'wave ' if len(waves) <= _WORDED_WAVES else ''}{wave.share:.0%}"
                for wave in waves
            ],
        }
    )
    band = (
        alt.Chart(marked)
        .mark_rect(color=ORANGE, opacity=0.2)
        .encode(x=alt.X("from:T", scale=_utc_scale()), x2=alt.X2("to:T"))
    )
    words = (
        alt.Chart(marked)
        .mark_text(baseline="bottom", dy=-1, fontSize=11, fontWeight=600, color=VERMILLION)
        .encode(x=alt.X("middle:T", scale=_utc_scale()), y=AT_TOP, text=alt.Text("word:N"))
    )
    return band + words


def sentiment_chart(buckets: Sequence[Bucket], *, dark: bool) -> Any:
    """The sentiments' shares over time, stacked."""
    frames = []
    for order, name in enumerate(("negative", "neutral", "positive")):
        frame = _times([bucket.start_s for bucket in buckets])
        frame["sentiment"], frame["order"] = name, order
        frame["posts"] = [getattr(bucket, name) for bucket in buckets]
        totals = [bucket.negative + bucket.neutral + bucket.positive for bucket in buckets]
        frame["share"] = [n / t if t else 0.0 for n, t in zip(frame["posts"], totals, strict=True)]
        frames.append(frame)
    colours = [ORANGE, GREY, SKY if dark else BLUE]
    data = pd.concat(frames)
    chart = (
        alt.Chart(data)
        .mark_area(opacity=0.85, interpolate="monotone")
        .encode(
            x=_time_axis(data),
            y=_share_axis("share", "of posts", stack=True),
            color=alt.Color(
                "sentiment:N",
                scale=alt.Scale(domain=["negative", "neutral", "positive"], range=colours),
                legend=None,
            ),
            order=alt.Order("order:Q"),
            tooltip=_tips("posts", sentiment="sentiment", share="share"),
        )
    )
    return _compact(chart, HEIGHT)


def rate_chart(labelled: Sequence[tuple[int, int]], step_s: int, *, dark: bool) -> Any:
    """Posts labelled a second."""
    data = _times([start for start, _ in labelled])
    data["rate"] = [n / step_s for _, n in labelled]
    colour = SKY if dark else BLUE
    base = alt.Chart(data).encode(
        x=_time_axis(data),
        y=alt.Y("rate:Q", title="posts/s", axis=alt.Axis(tickCount=4)),
        tooltip=_tips(rate="rate"),
    )
    area = base.mark_area(color=colour, opacity=0.18, interpolate="step-after")
    line = base.mark_line(color=colour, strokeWidth=1.5, interpolate="step-after")
    return _compact(area + line, HEIGHT)


def language_chart(shares: Sequence[tuple[str, int, int]], *, dark: bool) -> Any:
    """Posts by language, the most frequent and the rest, each bar with its share."""
    total = sum(n for _, n, _ in shares) or 1
    top = [(language_name(code), n) for code, n, _ in shares[:_TOP_LANGUAGES]]
    rest = shares[_TOP_LANGUAGES:]
    if rest:
        top.append((f"{len(rest)} more", sum(n for _, n, _ in rest)))
    data = pd.DataFrame(top, columns=["language", "posts"])
    data["share"] = data["posts"] / total
    data["rest"] = [i >= _TOP_LANGUAGES for i in range(len(data))]
    data["shown"] = [f"{share:.0%}" for share in data["share"]]
    base = alt.Chart(data).encode(
        y=alt.Y(
            "language:N",
            sort=list(data["language"]),
            scale=alt.Scale(paddingInner=0.35, paddingOuter=0.1),
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelLimit=110, labelOverlap=False),
        ),
        x=alt.X("share:Q", title="of posts", axis=alt.Axis(format="%", tickCount=4)),
        tooltip=[
            alt.Tooltip("language:N"),
            alt.Tooltip("posts:Q", format=","),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        # `alt.condition` says the same in ten times the time.
        color=alt.ColorValue(
            SKY if dark else BLUE,
            condition=alt.ConditionalPredicateValueDefGradientstringnullExprRef(
                test="datum.rest", value=GREY
            ),
        )
    )
    words = base.mark_text(align="left", dx=4, fontSize=11, color=GREY).encode(
        text=alt.Text("shown:N")
    )
    return _compact(bars + words, HEIGHT)


def language_mix_chart(
    found: Sequence[tuple[int, str, int]], top: Sequence[str], *, dark: bool
) -> Any:
    """Each language's share of posts over time, stacked: those of `top`, and the others together."""
    names = [language_name(code) for code in top[: len(_MIX)]]
    posts: dict[int, Counter[str]] = {}
    for start, code, n in found:
        name = language_name(code)
        posts.setdefault(start, Counter())[name if name in names else _OTHERS] += n
    shown = [*names, _OTHERS]
    frames = []
    for order, name in enumerate(shown):
        frame = _times(list(posts))
        frame["language"], frame["order"] = name, order
        frame["posts"] = [counts[name] for counts in posts.values()]
        frame["share"] = [counts[name] / counts.total() for counts in posts.values()]
        frames.append(frame)
    data = pd.concat(frames)
    colours = [SKY if dark and colour == BLUE else colour for colour in _MIX[: len(names)]]
    chart = (
        alt.Chart(data)
        .mark_area(opacity=0.85)
        .encode(
            x=_time_axis(data),
            y=_share_axis("share", "of posts", stack=True),
            color=alt.Color(
                "language:N",
                scale=alt.Scale(domain=shown, range=[*colours, GREY]),
                legend=alt.Legend(
                    title=None, orient="top", columns=3, labelFontSize=11, symbolSize=60, padding=0
                ),
            ),
            order=alt.Order("order:Q"),
            tooltip=_tips("posts", language="language", share="share"),
        )
    )
    return _compact(chart, HEIGHT)


def backlog_chart(history: Sequence[tuple[int, int]], *, dark: bool, height: int = TALL) -> Any:
    """Posts that waited for a worker, as sampled."""
    data = _times([second for second, _ in history])
    data["waiting"] = [waiting for _, waiting in history]
    chart = (
        alt.Chart(data)
        .mark_area(
            line={"color": SKY if dark else BLUE, "strokeWidth": 1.5},
            color=SKY if dark else BLUE,
            fillOpacity=0.18,
            interpolate="step-after",
        )
        .encode(
            x=_time_axis(data),
            y=alt.Y(
                "waiting:Q",
                title="posts waiting",
                axis=alt.Axis(tickCount=4, tickMinStep=1, format="~s"),
            ),
            tooltip=_tips("waiting"),
        )
    )
    return _compact(chart, height)


def latency_chart(
    points: Sequence[tuple[int, float, float]], *, dark: bool, height: int = TALL
) -> Any:
    """Latency from posted to labelled, p50 and p95, on a logarithmic scale."""
    frames = []
    for name, index in (("p50", 1), ("p95", 2)):
        frame = _times([point[0] for point in points])
        frame["percentile"] = name
        frame["ms"] = [max(point[index], 1.0) for point in points]
        frames.append(frame)
    data = pd.concat(frames) if points else pd.DataFrame(columns=["at", "when", "percentile", "ms"])
    chart = (
        alt.Chart(data)
        .mark_line(strokeWidth=2, interpolate="monotone")
        .encode(
            x=_time_axis(data),
            y=alt.Y(
                "ms:Q",
                title="ms",
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(values=[1, 10, 100, 1000, 10_000, 100_000], format="~s"),
            ),
            color=alt.Color(
                "percentile:N",
                scale=alt.Scale(domain=["p50", "p95"], range=[SKY if dark else BLUE, ORANGE]),
                legend=None,
            ),
            strokeDash=alt.StrokeDash(
                "percentile:N",
                scale=alt.Scale(domain=["p50", "p95"], range=[[1, 0], [5, 3]]),
                legend=None,
            ),
            tooltip=_tips(percentile="percentile", ms="ms"),
        )
    )
    return _compact(chart, height)


def _compact(chart: Any, height: int) -> Any:
    """The chart without the air that a card around it gives already."""
    return chart.properties(
        height=height, padding={"left": 0, "right": 6, "top": 14, "bottom": 0}
    ).configure_axis(titlePadding=4, labelPadding=4, titleFontSize=11, labelFontSize=11)


def _utc(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _times(seconds: Sequence[int]) -> pd.DataFrame:
    at = pd.to_datetime(pd.Series(list(seconds), dtype="int64"), unit="s", utc=True)
    return pd.DataFrame({"at": at, "when": at.dt.strftime("%H:%M:%S UTC")})


def _utc_scale() -> Any:
    return alt.Scale(type="utc", nice=False)


def _time_axis(data: pd.DataFrame) -> Any:
    short = len(data) < 2 or data["at"].max() - data["at"].min() < pd.Timedelta(minutes=8)
    time_format = "%H:%M:%S" if short else "%H:%M"
    axis = alt.Axis(format=time_format, tickCount=5, labelOverlap=True, grid=False)
    return alt.X("at:T", title="time (UTC)", scale=_utc_scale(), axis=axis)


def _share_axis(name: str, title: str, *, stack: bool = False) -> Any:
    return alt.Y(
        f"{name}:Q",
        title=title,
        axis=alt.Axis(format="%", tickCount=4),
        stack="zero" if stack else None,
        scale=alt.Scale(domain=[0, 1]) if stack else alt.Undefined,
    )


def _tips(*counts: str, **others: str) -> list[Any]:
    tips = [alt.Tooltip("when:N", title="from")]
    formats = {"share": ".1%", "rate": ".1f", "ms": ",.0f"}
    for name in others:
        number = formats.get(name)
        tips.append(alt.Tooltip(f"{name}:Q", format=number) if number else alt.Tooltip(f"{name}:N"))
    return tips + [alt.Tooltip(f"{name}:Q", format=",") for name in counts]
