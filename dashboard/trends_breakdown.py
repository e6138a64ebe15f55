"""Under the chart of the Trends page: by language, source or tag; what rises; who and what leads."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pandas as pd
import streamlit as st

from dashboard import controls
from dashboard.feed import show_feed
from dashboard.languages import language_name
from dashboard.page import reading
from dashboard.post_drawer import open_post
from dashboard.queries import trends
from dashboard.queries.rise import Said, who_says
from dashboard.scope import EVERYTHING
from dashboard.trend_metrics import METRICS, parts
from dashboard.trends_view import (
    chosen_metric,
    chosen_period,
    comparison_of,
    export,
    groups_of,
)

_EVERY_S: Final = 20
_EXAMPLES: Final = 5
#: A table shorter than this is shown whole.
_WHOLE: Final = 9
_RISES: Final[dict[str, trends.Frequent]] = {
    "Terms": "terms",
    "Tags": "tags",
    "Domains": "domains",
}


@st.fragment(run_every=_EVERY_S)
def by_group() -> None:
    """Every language, source or tag: posts, change, mood, toxicity, and its part of the change."""
    by = st.segmented_control(
        "By",
        ["Language", "Source", "Tag"],
        default="Language",
        required=True,
        key="by",
        bind="query-params",
        label_visibility="collapsed",
    )
    span, metric = chosen_period(), chosen_metric()
    dimension: Any = (by or "Language").lower()
    with reading() as reader:
        if reader is None:
            return
        found = groups_of(reader, dimension, span)
    if not found:
        st.caption(
            "No tag was counted in this period: `tidegate aggregate` counts them."
            if dimension == "tag"
            else "No post in this period."
        )
        return
    # A post may have several tags: their parts would not add up to the change.
    moved = {} if dimension == "tag" else {part.name: part.part for part in parts(metric, found)}
    toxicity, mood = METRICS["Toxicity"], METRICS["Net sentiment"]
    total = sum(group.now.posts for group in found) or 1
    table = pd.DataFrame(
        [
            {
                by: language_name(group.name) if dimension == "language" else group.name,
                "Posts": group.now.posts,
                "Share": group.now.posts / total,
                "Before": group.before.posts,
                "Change": (group.now.posts - group.before.posts) / group.before.posts
                if group.before.posts
                else None,
                "Net sentiment": _times(mood.value(group.now), 100),
                "Toxicity": toxicity.value(group.now),
                "Toxicity before": toxicity.value(group.before),
                "Part of change": _times(moved.get(group.name), 100),
            }
            for group in found
        ]
    )
    if dimension == "tag":
        table = table.drop(columns=["Part of change", "Share"])
    st.dataframe(
        table,
        hide_index=True,
        placeholder="–",
        height=_height(table),
        alt=f"Posts, sentiment and toxicity by {dimension}, against {span.before}",
        column_config=_columns(metric.name, span.before),
    )
    export(
        "Table as CSV", f"tidegate-by-{dimension}", list(table.columns),
        table.astype(object).where(table.notna(), "").itertuples(index=False),
    )  # fmt: skip


def _columns(metric: str, before: str) -> dict[str, Any]:
    column = st.column_config
    return {
        "Posts": column.NumberColumn(format="localized"),
        "Share": column.ProgressColumn(
            "Share of posts", format="percent", min_value=0, max_value=1
        ),
        "Before": column.NumberColumn(format="localized", help=f"posts in {before}"),
        "Change": column.NumberColumn("Change of posts", format="percent"),
        "Net sentiment": column.NumberColumn(
            format="%+.0f", help="positive less negative posts, of a hundred"
        ),
        "Toxicity": column.NumberColumn(format="percent"),
        "Toxicity before": column.NumberColumn(format="percent"),
        "Part of change": column.NumberColumn(
            f"Part of change: {metric}",
            format="%+.2f",
            help="what it added to the change of the metric in the chart above: percentage points"
            " (of volume: per cent of the posts before). The parts add up to the change.",
        ),
    }


@st.fragment(run_every=_EVERY_S)
def rising() -> None:
    """What is said more than before, and of the row selected: what makes it rise."""
    what_name = st.segmented_control(
        "What",
        list(_RISES),
        default="Terms",
        required=True,
        key="rising",
        bind="query-params",
        label_visibility="collapsed",
    )
    what, span = _RISES[what_name or "Terms"], chosen_period()
    with reading() as reader:
        if reader is None:
            return
        found = trends.rising(reader.db, what, span.from_s, span.to_s, limit=30)
        now, before = comparison_of(reader, span, EVERYTHING)
    if not found:
        st.caption(
            f"No {what} were counted in this period: `tidegate aggregate` counts them, minute by"
            " minute, and nothing rises before three posts say it."
        )
        return
    posts = now.posts or 1
    left, right = st.columns([1.25, 1], gap="small")
    with left:
        table = pd.DataFrame(
            [
                {
                    what_name: item.name,
                    "Posts": item.posts,
                    "Share now": min(item.posts / posts, 1.0),
                    # `before` is scaled to the posts of this period already.
                    "Share before": min(item.before / posts, 1.0) if before.posts else None,
                    "Lift": item.lift,
                }
                for item in found
            ]
        )
        event: Any = st.dataframe(
            table,
            hide_index=True,
            placeholder="–",
            key=f"rising-{what}",
            on_select="rerun",
            selection_mode="single-row",
            height=_height(table),
            alt=f"{what_name} that rise against {span.before}, the steepest first",
            column_config={
                "Posts": st.column_config.NumberColumn(format="localized"),
                "Share now": st.column_config.NumberColumn(format="percent"),
                "Share before": st.column_config.NumberColumn(format="percent"),
                "Lift": st.column_config.NumberColumn(
                    format="%.1f ×",
                    help="how many times its share of posts grew, drawn to 1 where few posts tell",
                ),
            },
        )
        export(
            "Table as CSV", f"tidegate-rising-{what}", list(table.columns),
            table.astype(object).where(table.notna(), "").itertuples(index=False),
        )  # fmt: skip
    rows = event.selection.rows
    picked = found[rows[0]] if rows and rows[0] < len(found) else found[0]
    with right, st.container(border=True, gap="xsmall"):
        _why(what, picked.name)


def _why(what: trends.Frequent, name: str) -> None:
    """What makes one rise: voices, places, languages, and the newest posts with it."""
    span = chosen_period()
    with reading() as reader:
        if reader is None:
            return
        periods = (span.from_s - span.length_s, span.from_s, span.to_s)
        now, before, examples = who_says(reader.db, what, name, periods, _EXAMPLES)
    st.markdown("**:material/trending_up: What makes it rise**")
    st.text(f"#{name}" if what == "tags" else name)
    if not now.posts:
        st.caption(
            "None of the posts still held has it in its text: it stood in tags or links of the"
            " record, or the posts are older than what the read model keeps."
        )
        return
    st.markdown(_voices(now, before))
    for icon, word, counter in (
        ("person", "busiest authors", now.authors),
        ("rss_feed", "sources", now.sources),
        (
            "translate",
            "languages",
            Counter({language_name(n): k for n, k in now.languages.items()}),
        ),
    ):
        st.markdown(f":small[:material/{icon}: {word}]")
        st.text(_most(counter, now.posts))
    show_feed(
        examples,
        key="rising-examples",
        filter_key=f"{what}:{name}",
        nothing="No post that is still held says it.",
        height=230,
        on_open=open_post,
    )


def _voices(now: Said, before: Said) -> str:
    """Few loud voices, or many: in words."""
    loud, few = 0.5, 3
    who = f"**{len(now.authors):,}** authors, **{len(before.authors):,}** in the period before"
    if now.loudest >= loud or len(now.authors) <= few:
        return (
            f":orange[:material/campaign:] {who}; one of them wrote {now.loudest:.0%} of its"
            " posts: **few voices**."
        )
    more = len(now.authors) > 1.5 * max(len(before.authors), 1)
    reason = "**more people** say it" if more else "the same people say it **more often**"
    toxic = f"; {now.toxic / now.posts:.0%} of its posts are abusive" if now.toxic else ""
    return f":blue[:material/groups:] {who}: {reason}{toxic}."


def _most(counter: Counter[str], posts: int) -> str:
    return " · ".join(f"{name} {n / posts:.0%}" for name, n in counter.most_common(4)) or "not told"


@st.fragment(run_every=_EVERY_S)
def leading() -> None:
    """Who posted most, and the domains linked to most."""
    span = chosen_period()
    with reading() as reader:
        if reader is None:
            return
        authors = trends.top_authors(reader.db, span.from_s, span.to_s, scope=controls.scope())
        domains, tags = trends.frequent(reader.db, ["domains", "tags"], span.from_s, span.to_s)
    columns = st.columns([1.4, 1, 1], gap="small")
    with columns[0]:
        st.markdown("**:material/person: Authors**")
        table = pd.DataFrame(
            [(a.author, a.posts, a.toxic, a.toxic / a.posts) for a in authors],
            columns=["Author", "Posts", "Abusive", "Share abusive"],
        )
        st.dataframe(
            table,
            hide_index=True,
            placeholder="–",
            height=_height(table),
            alt="Authors with the most posts of the period",
            column_config={
                "Share abusive": st.column_config.ProgressColumn(
                    format="percent", min_value=0, max_value=1
                )
            },
        )
        export(
            "Table as CSV", "tidegate-authors", list(table.columns), table.itertuples(index=False)
        )
        st.caption(
            f"Among the newest {trends.AUTHORS_OF:,} posts of the period that the read model still"
            " holds, in this page's scope."
        )
    for column, icon, title, rows in (
        (columns[1], "link", "Domains", domains),
        (columns[2], "tag", "Tags", tags),
    ):
        with column:
            st.markdown(f"**:material/{icon}: {title}**")
            if not rows:
                st.caption(f"No {title.lower()} were counted; `tidegate aggregate` counts them.")
                continue
            table = pd.DataFrame(rows, columns=[title[:-1], "Posts"])
            st.dataframe(
                table,
                hide_index=True,
                placeholder="–",
                height=_height(table),
                alt=f"{title} with the most posts, whole stream",
                column_config={"Posts": st.column_config.NumberColumn(format="localized")},
            )
            export(
                "Table as CSV",
                f"tidegate-{title.lower()}",
                list(table.columns),
                table.itertuples(index=False),
            )


def _height(table: pd.DataFrame) -> Any:
    return "content" if len(table) < _WHOLE else 330


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
