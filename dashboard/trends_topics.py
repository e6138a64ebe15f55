"""Topics and brands of the Trends page: saved boolean queries, share of voice, mood of each."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
import streamlit as st

from dashboard import acting, controls, page, trend_charts
from dashboard.actions import save_brand
from dashboard.drawing import show_chart
from dashboard.page import reading
from dashboard.people import Role
from dashboard.period import Period
from dashboard.projection import COARSE_S
from dashboard.queries import brands as brand_queries
from dashboard.queries.brands import Brand, Query, parse_query
from dashboard.queries.trends import NOTHING, Figures
from dashboard.topic_counts import Known, TopicCounts
from dashboard.trends_view import chosen_period, export
from stream.errors import ConfigError

_EVERY_S: Final = 30
#: More queries than this are not drawn at once: each reads the texts of the period.
_DRAWN: Final = 8
_PENDING: Final = "topics_pending"


@st.fragment(run_every=_EVERY_S)
def topics() -> None:
    """Every saved topic: its share of voice, now and before, its mood, and its course."""
    with reading() as reader:
        if reader is None:
            return
        saved = brand_queries.brands(reader.db)
    _editor(saved)
    acting.show_failure()
    _pending(saved)
    if not saved:
        st.caption(
            'None is saved yet. A topic is a query: `tram OR "night bus"`, `#transit -delay`,'
            " `(tram OR bus) AND late`, `tram*`."
        )
        return
    queries = _parsed(saved[:_DRAWN])
    span, scope = chosen_period(), controls.scope()
    counts = _counts(str(page.settings().dashboard.database))
    counts.ask(list(queries.values()))
    # A period begins with a whole step of five minutes, its longer steps may not.
    fine = {name: counts.known(query, COARSE_S, scope) for name, query in queries.items()}
    lines = [(name, _steps(known, span)) for name, known in fine.items()]
    now = [(name, known.within(span.from_s, span.to_s)) for name, known in fine.items()]
    before = [known.within(span.from_s - span.length_s, span.from_s) for known in fine.values()]
    left, right = st.columns([1.2, 1], gap="small")
    with left:
        table = _table(now, before, {brand.name: brand.query for brand in saved})
        if table["Before"].isna().all():
            table = table.drop(columns="Before")
        st.dataframe(
            table,
            hide_index=True,
            placeholder="–",
            alt=f"Share of voice and sentiment of each topic, against {span.before}",
            column_config={
                "Share of voice": st.column_config.ProgressColumn(
                    format="percent",
                    min_value=0,
                    max_value=1,
                    help="of the posts of all topics listed; a post may count for several",
                ),
                "Before": st.column_config.NumberColumn(
                    format="percent", help=f"share of voice in {span.before}"
                ),
                "Net sentiment": st.column_config.NumberColumn(
                    format="%+.0f", help="positive less negative posts, of a hundred"
                ),
                "Toxicity": st.column_config.NumberColumn(format="percent"),
                "Posts": st.column_config.NumberColumn(format="localized"),
            },
        )
        export(
            "Table as CSV", "tidegate-topics", list(table.columns),
            table.astype(object).where(table.notna(), "").itertuples(index=False),
        )  # fmt: skip
        some = f" The first {_DRAWN} of {len(saved)} topics." if len(saved) > _DRAWN else ""
        known = min(fine.values(), key=lambda each: each.counted / max(each.held, 1))
        if known.whole:
            st.caption(f"Counted among the {known.held:,} posts held.{some}")
        else:
            st.caption(
                ":material/hourglass_top: Being counted: so far the newest"
                f" {max(known.counted, 0):,} of {known.held:,} posts held.{some}"
            )
    with right:
        show_chart(
            trend_charts.voice_chart(lines, span, page.now_ms() // 1000),
            alt=f"Posts of each topic over {span.words()}",
        )


def _parsed(saved: list[Brand]) -> dict[str, Query]:
    found = {}
    for brand in saved:
        try:
            found[brand.name] = parse_query(brand.query)
        except ConfigError:  # written by another version; the table's caption cannot mend it
            continue
    return found


@st.cache_resource(max_entries=4)
def _counts(database: str) -> TopicCounts:  # noqa: ARG001 - it keys the cache
    return TopicCounts(page.settings().dashboard.database)


def _steps(known: Known, span: Period) -> list[tuple[int, Figures]]:
    """The period in its steps, empty ones included; the first and the last may be cut."""
    first = span.from_s - span.from_s % span.step_s
    found = {start: [0] * len(NOTHING) for start in range(first, span.to_s, span.step_s)}
    for start, figures in known.by_step.items():
        if span.from_s <= start < span.to_s:
            counts = found[start - start % span.step_s]
            for n, value in enumerate(figures):
                counts[n] += value
    return [(start, Figures(*counts)) for start, counts in found.items()]


def _table(
    now: list[tuple[str, Figures]], before: list[Figures], queries: dict[str, str]
) -> pd.DataFrame:
    total = sum(figures.posts for _, figures in now)
    total_before = sum(figures.posts for figures in before)
    return pd.DataFrame(
        [
            {
                "Topic": name,
                "Posts": figures.posts,
                "Share of voice": figures.posts / total if total else 0.0,
                "Before": then.posts / total_before if total_before else None,
                "Net sentiment": None
                if figures.net_sentiment is None
                else figures.net_sentiment * 100,
                "Toxicity": figures.toxicity_rate,
                "Query": queries[name],
            }
            for (name, figures), then in zip(now, before, strict=True)
        ]
    )


def _editor(saved: list[Brand]) -> None:
    """Save a topic, change one, delete one; for those who may."""
    person = acting.person()
    if person is None or not person.may(Role.ANALYST):
        return
    with st.popover("Add or change a topic", icon=":material/add:", key="topic-editor"):
        st.text_input("Name", key="topic_name", max_chars=80)
        query = st.text_input(
            "Query",
            key="topic_query",
            max_chars=500,
            placeholder='tram OR "night bus"',
            help='Words are matched whole: AND, OR, NOT, "a phrase", (brackets), #tag, prefix*',
        )
        problem = _problem(query)
        if problem:
            st.text(problem)
        st.button(
            "Save",
            icon=":material/save:",
            type="primary",
            disabled=bool(problem) or not query,
            on_click=_save,
            key="topic_save",
        )
        if saved:
            st.selectbox(
                "Delete", [b.name for b in saved], index=None, key="topic_gone",
                placeholder="a saved topic",
            )  # fmt: skip
            st.button(
                "Delete it",
                icon=":material/delete:",
                disabled=not st.session_state.get("topic_gone"),
                on_click=_delete,
                key="topic_delete",
            )


def _problem(query: str | None) -> str:
    """What is wrong with a query; empty: nothing."""
    if not query:
        return ""
    try:
        parse_query(query)
    except ConfigError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return f"{error.message[:1].upper()}{error.message[1:]}{hint}"
    return ""


def _save() -> None:
    name, query = st.session_state["topic_name"].strip(), st.session_state["topic_query"].strip()
    _change("Save the topic", name, query)


def _delete() -> None:
    _change("Delete the topic", st.session_state["topic_gone"], None)


def _change(what: str, name: str, query: str | None) -> None:
    person = acting.person()
    if person is None:
        return
    with acting.attempt(what):
        save_brand(person, acting.writer(), name, query, page.now_ms())
        st.session_state[_PENDING] = (name, query)
        st.session_state.update(topic_name="", topic_query="")


def _pending(saved: list[Brand]) -> None:
    """What was written and is not read back yet."""
    pending: tuple[str, str | None] | None = st.session_state.get(_PENDING)
    if pending is None:
        return
    held: dict[str, Any] = {brand.name: brand.query for brand in saved}
    if held.get(pending[0]) == pending[1]:
        st.session_state.pop(_PENDING)
        return

    @st.fragment(run_every=1)
    def waiting() -> None:
        with reading() as reader:
            now = (
                {brand.name: brand.query for brand in brand_queries.brands(reader.db)}
                if reader
                else {}
            )
        if now.get(pending[0]) == pending[1]:
            st.session_state.pop(_PENDING, None)
            st.rerun()
        st.caption(":material/hourglass_empty: The broker has it; the page shows it in a moment.")

    waiting()
