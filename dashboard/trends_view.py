"""The head of the Trends page: what is looked at, four figures, and the chart of one of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import streamlit as st

from dashboard import acting, controls, page, trend_charts
from dashboard.drawing import show_chart
from dashboard.languages import language_name
from dashboard.page import names, reading
from dashboard.people import Role
from dashboard.period import CUSTOM, PERIODS, Period, custom_period, period
from dashboard.queries import alerts as alert_queries
from dashboard.queries import trends
from dashboard.queries.trends import Figures, Step
from dashboard.reader import Reader
from dashboard.scope import Scope
from dashboard.trend_metrics import METRICS, TrendMetric, change, parts, shown, shown_change

_EVERY_S: Final = 20
_TAGS_OF_S: Final = 86_400
_MOST_ALERTS: Final = 60
_MOVERS: Final = 3
T = TypeVar("T")
_MOST_GROUPS: Final = 300
_GROUPS: Final = "trends_groups"
_COMPARISON: Final = "trends_comparison"
_DRAW_MS: Final = 5_000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def pickers() -> None:
    """Period, sources, languages and tag, in one line; all of them in the address."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Period",
            [*PERIODS, CUSTOM],
            default="24 h",
            required=True,
            key="period",
            bind="query-params",
            label_visibility="collapsed",
        )
        if st.session_state.get("period") == CUSTOM:
            _custom()
        for label, options, key in (
            ("sources", names("sources"), "source"),
            ("languages", names("languages"), "language"),
        ):
            st.multiselect(
                label.capitalize(),
                options,
                format_func=language_name if key == "language" else str,
                key=key,
                bind="query-params",
                accept_new_options=True,
                placeholder=f"All {label}",
                label_visibility="collapsed",
                width=170,
            )
        st.selectbox(
            "Tag",
            _tags(),
            index=None,
            format_func=lambda tag: f"#{tag}",
            key="tag",
            bind="query-params",
            accept_new_options=True,
            placeholder="All tags",
            label_visibility="collapsed",
            width=170,
        )


def _tags() -> list[str]:
    """The tags to choose from: the most frequent of a day up to the period's end."""
    end = chosen_period().to_s
    with reading() as reader:
        if reader is None:
            return []
        (found,) = trends.frequent(reader.db, ["tags"], end - _TAGS_OF_S, end, 100)
    return [name for name, _ in found]


def _custom() -> None:
    today = datetime.now(UTC).replace(tzinfo=None, minute=0, second=0, microsecond=0)
    for label, key, at in (
        ("From (UTC)", "from", today - timedelta(days=2)),
        ("To (UTC)", "to", today),
    ):
        st.datetime_input(
            label,
            value=at,
            key=key,
            bind="query-params",
            step=300,
            width=170,
            label_visibility="collapsed",
            help=label,
        )


def chosen_period() -> Period:
    """What the pickers say."""
    state, now_s = st.session_state, page.now_ms() // 1000
    name = state.get("period") or "24 h"
    if name in PERIODS:
        return period(name, now_s)
    from_at, to_at = state.get("from"), state.get("to")
    if not isinstance(from_at, datetime) or not isinstance(to_at, datetime):
        return period("24 h", now_s)
    return custom_period(from_at, to_at, now_s)


def chosen_tag() -> str | None:
    """The tag looked at; None: all posts."""
    tag = (st.session_state.get("tag") or "").strip().lstrip("#")
    return tag or None


def overview() -> None:
    """Four figures against the period before, and one of them over time."""

    @st.fragment(run_every=_EVERY_S)
    def draw() -> None:
        span, scope, tag = chosen_period(), controls.scope(), chosen_tag()
        with reading() as reader:
            if reader is None:
                return
            db = reader.db
            steps = trends.series(db, span.from_s, span.to_s, span.step_s, scope=scope, tag=tag)
            if tag is None:
                now, before = comparison_of(reader, span, scope)
            else:
                now, before = _summed(steps)
        _figures(span, now, before)
        if not now.posts:
            _nothing(span, tag)
            return
        with st.container(border=True, gap="xsmall"):
            _metric_line(steps)
            with reading() as reader:
                if reader is None:
                    return
                fired = _fired(reader, span)
                story = _story(reader, span, now, before)
            _chart(span, steps, fired, story)

    draw()


def _fired(reader: Reader, span: Period) -> list[alert_queries.AlertView]:
    """The alerts that began in the period."""
    found = alert_queries.alerts(
        reader.db,
        page.now_ms(),
        from_ms=span.from_s * 1000,
        to_ms=span.to_s * 1000,
        limit=_MOST_ALERTS,
    )
    return [alert for alert in found if alert.started_ms >= span.from_s * 1000]


def _figures(span: Period, now: Figures, before: Figures) -> None:
    with st.grid(4, min_column_width=150, gap="small"):
        for metric in METRICS.values():
            moved = change(metric, now, before)
            st.metric(
                f":material/{metric.icon}: {metric.name}",
                shown(metric, metric.value(now)),
                **_delta(metric, moved, span),
                border=True,
                height="stretch",
                help=metric.help,
            )


def _delta(metric: TrendMetric, moved: float | None, span: Period) -> dict[str, Any]:
    if moved is None:
        return {"delta": f"no {span.name} before it", "delta_color": "off", "delta_arrow": "off"}
    colour = {"up": "normal", "down": "inverse", None: "off"}[metric.good]
    value = f"{moved:+.1%}" if metric.kind == "count" else f"{moved * 100:+.1f} points"
    return {"delta": value, "delta_description": f"vs {span.before}", "delta_color": colour}


def _metric_line(steps: Sequence[Step]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Metric",
            list(METRICS),
            default="Volume",
            required=True,
            key="metric",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.space("stretch")
        export(
            "Series as CSV",
            "tidegate-series",
            ("start_utc", "posts", "positive", "neutral", "negative", "toxic", "posts_before",
             "positive_before", "neutral_before", "negative_before", "toxic_before"),
            [(_iso(step.start_s), *step.now, *step.before) for step in steps],
        )  # fmt: skip


def _chart(
    span: Period, steps: Sequence[Step], fired: Sequence[alert_queries.AlertView], story: str
) -> None:
    metric = chosen_metric()
    show_chart(
        trend_charts.metric_chart(
            steps, metric, span, fired, now_s=page.now_ms() // 1000, dark=page.dark()
        ),
        alt=f"{metric.name} over {span.words()}, with {span.before} as a dashed line"
        f" and {len(fired)} alerts as marks",
    )
    if story:
        st.markdown(story)
    alerts = "1 alert" if len(fired) == 1 else f"{len(fired)} alerts"
    bells = f"▲ {alerts} began in it" if fired else "no alert began in it"
    st.caption(
        f"{span.words()}; {bells}. *Download as PNG* is at the chart's upper right corner."
        + (" A tag's figures are of the whole stream." if chosen_tag() else "")
    )


def chosen_metric() -> TrendMetric:
    """The metric looked at."""
    return METRICS.get(st.session_state.get("metric") or "", METRICS["Volume"])


def _story(reader: Reader, span: Period, now: Figures, before: Figures) -> str:
    """What moved the metric, in a sentence; only names of our own stand in it."""
    metric = chosen_metric()
    moved = change(metric, now, before)
    if moved is None or chosen_tag() is not None:
        return ""
    groups = groups_of(reader, "language", span)
    least = 0.001
    movers = [
        f"{language_name(part.name)} {shown_change(metric, part.part)}"
        for part in parts(metric, groups)[:_MOVERS]
        if abs(part.part) >= least
    ]
    way = "rose" if moved > 0 else "fell"
    if abs(moved) < least:
        return f":material/trending_flat: **{metric.name}** is as in {span.before}."
    icon = "trending_up" if moved > 0 else "trending_down"
    why = f" The largest parts: {', '.join(movers)}." if movers else ""
    return (
        f":material/{icon}: **{metric.name}** {way} by"
        f" {shown_change(metric, abs(moved)).lstrip('+')} against {span.before}.{why}"
    )


def groups_of(reader: Reader, by: trends.By, span: Period) -> list[trends.Group]:
    """The groups of the page's scope, the busiest first; what moved the metric asks for them too."""
    scope = controls.scope()
    return _once_a_draw(
        _GROUPS,
        (by, span, scope),
        lambda: trends.groups(
            reader.db, by, span.from_s, span.to_s, scope=scope, limit=_MOST_GROUPS
        ),
    )


def comparison_of(reader: Reader, span: Period, scope: Scope) -> tuple[Figures, Figures]:
    """The period and the one before it; the page's tabs ask for them too."""
    return _once_a_draw(
        _COMPARISON,
        (span, scope),
        lambda: trends.comparison(reader.db, span.from_s, span.to_s, scope=scope),
    )


def _once_a_draw(key: str, asked: tuple[Any, ...], find: Callable[[], T]) -> T:
    """The newest answer alone, and only while the page is drawn: the next look asks anew."""
    held: dict[tuple[Any, ...], T] = st.session_state.setdefault(key, {})
    now = (*asked, page.now_ms() // _DRAW_MS)
    if now not in held:
        held.clear()
        held[now] = find()
    return held[now]


def _summed(steps: Sequence[Step]) -> tuple[Figures, Figures]:
    return (
        Figures(*(sum(column) for column in zip(*(s.now for s in steps), strict=True))),
        Figures(*(sum(column) for column in zip(*(s.before for s in steps), strict=True))),
    )


def _nothing(span: Period, tag: str | None) -> None:
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown("##### :material/bedtime: No post in this period", text_alignment="center")
        why = " The tag's counts come from the role that aggregates." if tag else ""
        st.caption(
            f"{span.words()}. Choose a longer one, or fewer filters.{why}", text_alignment="center"
        )


def export(
    label: str, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]], key: str = ""
) -> None:
    """A button that saves a table as CSV, for those who may export."""
    person = acting.person()
    if person is None or not person.may(Role.ANALYST):
        return
    st.download_button(
        label,
        csv_of(header, rows),
        f"{name}.csv",
        "text/csv",
        key=key or f"csv-{name}",
        icon=":material/download:",
        on_click="ignore",
    )


def csv_of(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The table as CSV; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            [
                f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
                for cell in row
            ]
        )
    return made.getvalue().encode("utf-8-sig")


def _iso(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"
