"""The parts of the Live page. What updates by itself is a fragment; the filters are in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboard import charts, page
from dashboard.feed import show_feed, toxicity_word
from dashboard.figures import RANGES, Figures, figures, stretch
from dashboard.languages import language_code, language_name
from dashboard.post_drawer import open_post
from dashboard.reader import SEARCHED_POSTS, Bucket, FeedFilter, Reader, Scope
from dashboard.waves import Wave, find_waves

_FEED_POSTS: Final = 60
_FEED_HEIGHT: Final = 452
#: As the filter and the address call it, to the label; `any` is every label but none.
_TOXICITY: Final = {"abuse": "any"} | {
    toxicity_word(label): label
    for label in (
        "toxic",
        "severe_toxic",
        "obscene",
        "threat",
        "insult",
        "identity_attack",
        "none",
    )
}
_SENTIMENTS: Final = ("negative", "neutral", "positive")


def _names(question: str) -> list[str]:
    with page.reading() as reader:
        found: list[str] = [] if reader is None else getattr(reader, question)()
    return found


def controls() -> None:
    """Range, scope and pause: one line over everything."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Range",
            list(RANGES),
            default="15 min",
            required=True,
            key="range",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.multiselect(
            "Sources",
            _names("sources"),
            key="source",
            bind="query-params",
            accept_new_options=True,
            placeholder="All sources",
            label_visibility="collapsed",
            width=210,
        )
        st.multiselect(
            "Languages",
            _names("languages"),
            format_func=language_name,
            key="language",
            bind="query-params",
            accept_new_options=True,
            placeholder="All languages",
            label_visibility="collapsed",
            width=210,
        )
        st.toggle(
            "Pause",
            key="paused",
            on_change=_paused,
            help="Holds the whole page at this moment. Labels go on arriving.",
        )
        st.space("stretch")
        _freshness()


@st.fragment(run_every=2)
def _freshness() -> None:
    with (
        st.container(horizontal=True, horizontal_alignment="right"),
        page.reading() as reader,
    ):
        page.live_badge({} if reader is None else reader.status(), page.now_ms())


def _paused() -> None:
    st.session_state["paused_at_ms"] = page.now_ms() if st.session_state["paused"] else None


def _at_ms() -> int:
    return st.session_state.get("paused_at_ms") or page.now_ms()


def _every(seconds: float) -> float | None:
    return None if st.session_state.get("paused_at_ms") else seconds


def _scope() -> Scope:
    state = st.session_state
    return Scope(
        tuple(state.get("source", ())),
        tuple(language_code(name) for name in state.get("language", ())),
    )


def _range() -> str:
    chosen: str = st.session_state.get("range") or "15 min"
    return chosen


@st.fragment(run_every=2)
def status_line() -> None:
    """How fresh the page is; goes on while the page is paused."""
    now = page.now_ms()
    with page.reading() as reader:
        status = {} if reader is None else reader.status()
    page.stale_banner(status, now)
    paused_at = st.session_state.get("paused_at_ms")
    if paused_at:
        st.info(
            f"Paused at {page.utc(paused_at)}. Labels go on arriving; switch Pause off to see them.",
            icon=":material/pause:",
        )


def first_steps() -> None:
    """The empty page, with what to type."""

    @st.fragment(run_every=2)
    def waiting() -> None:
        with page.reading() as reader:
            if reader is not None and reader.newest_post_ms() is not None:
                st.rerun()
            posts = 0 if reader is None else sum(row["end_offset"] for row in reader.backlog())
            running = reader is not None and "projector" in reader.status()
        with st.container(border=True, horizontal_alignment="center", gap="medium"):
            st.space("medium")
            st.markdown("### :material/waves: No posts yet", text_alignment="center")
            if not running:
                st.markdown(
                    "Nothing brings labels in: start everything with one command.",
                    text_alignment="center",
                )
                st.code("tidegate dashboard", language="bash", width=420)
            elif posts:
                st.markdown(
                    f"**{posts:,}** posts wait on the topic, and no worker has labelled one.",
                    text_alignment="center",
                )
                st.code(page.WORKER_COMMAND, language="bash", width=420)
            else:
                st.markdown(
                    "Send some: a file of posts (JSONL, CSV, TSV, gzip) is enough.",
                    text_alignment="center",
                )
                st.code(page.FEED_COMMAND, language="bash", width=420)
                st.caption("Or watch the demonstration: `tidegate demo`", text_alignment="center")
            st.space("medium")

    waiting()


def headline() -> None:
    """Five figures, each with its trend."""

    @st.fragment(run_every=_every(2))
    def draw() -> None:
        now = _at_ms()
        with page.reading() as reader:
            if reader is None:
                return
            read = figures(reader, _scope(), stretch(_range(), now), now)
        with st.grid(5, min_column_width=150, gap="small"):
            for metric in _metrics(read, _range()):
                st.metric(**metric, border=True, height="stretch")

    draw()


def _metrics(read: Figures, name: str) -> list[dict[str, Any]]:
    quiet = {"delta_color": "off", "delta_arrow": "off"}
    clear_s = read.backlog / read.posts_per_s if read.backlog and read.posts_per_s else None
    return [
        {
            "label": ":material/speed: Throughput",
            "value": f"{read.posts_per_s:,.1f} /s",
            "delta": f"{read.posts:,} posts in {name}",
            **quiet,
            "help": "Posts labelled a second over the last 10 seconds, whole stream; below, the posts of this page's scope and range.",
        },
        {
            "label": ":material/timer: Latency p95",
            "value": "–" if read.p95_ms is None else f"{read.p95_ms:,.0f} ms",
            "delta": "no post in the last minute"
            if read.p50_ms is None
            else f"half within {read.p50_ms:,.0f} ms",
            **quiet,
            "help": "From posted to labelled, over the last minute, whole stream.",
        },
        {
            "label": ":material/inbox: Backlog",
            "value": "–" if read.backlog is None else f"{read.backlog:,}",
            "delta": "posts waiting" if clear_s is None else f"done in {page.span(clear_s)}",
            **quiet,
            "help": "Posts on the topic that no worker has finished, and how long they take at the present rate.",
        },
        {
            "label": ":material/report: Abusive",
            "value": "–" if read.abusive_share is None else f"{read.abusive_share:.1%}",
            **_change(read.abusive_share, read.abusive_share_before, name),
            "delta_color": "inverse",
            "help": "Posts with any toxicity label, as a share of all; in percentage points against the range before.",
        },
        {
            "label": ":material/mood: Net sentiment",
            "value": "–" if read.net_sentiment is None else f"{read.net_sentiment * 100:+.0f}",
            **_change(read.net_sentiment, read.net_sentiment_before, name),
            "help": "Positive less negative posts, of a hundred; against the range before.",
        },
    ]


def _change(now: float | None, before: float | None, name: str) -> dict[str, Any]:
    """The difference in points of a hundred, or that there is nothing to compare with."""
    if now is None or before is None:
        return {"delta": f"nothing in the {name} before", "delta_arrow": "off"}
    return {"delta": round((now - before) * 100, 1), "delta_description": f"vs {name} before"}


def panels() -> None:
    """Abuse, sentiment, throughput and languages over the range."""

    @st.fragment(run_every=_every(4))
    def draw() -> None:
        now = _at_ms()
        cut = stretch(_range(), now)
        scope, is_dark = _scope(), page.dark()
        with page.reading() as reader:
            if reader is None:
                return
            buckets = reader.buckets(scope, cut.from_s, cut.to_s, cut.step_s)
            waves = find_waves(buckets, cut.step_s)
            story = _story(reader, scope, waves, now)
            languages = reader.shares("language", scope, cut.from_s, cut.to_s)
            done = now // 1000 // cut.step_s * cut.step_s
            labelled = reader.labelled(cut.from_s, done, cut.step_s)
            newest = reader.newest_post_ms()
        if not any(bucket.posts for bucket in buckets):
            _nothing_in_range(newest)
            return
        left, right = st.columns(2, gap="small")
        with left.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/report: Abuse**")
            st.altair_chart(
                charts.abuse_chart(buckets, waves),
                alt="Share of posts with a toxicity label over time",
            )
            st.caption(story)
        with right.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/mood: Sentiment**")
            st.altair_chart(
                charts.sentiment_chart(buckets, dark=is_dark),
                alt="Shares of negative, neutral and positive posts over time",
            )
            st.caption(_mood(buckets))
        left, right = st.columns(2, gap="small")
        with left.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/speed: Throughput**")
            st.altair_chart(
                charts.rate_chart(labelled, cut.step_s, dark=is_dark),
                alt="Posts labelled a second over time, whole stream",
            )
        with right.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/translate: Languages**")
            st.altair_chart(charts.language_chart(languages, dark=is_dark), alt="Posts by language")

    draw()


def _story(reader: Reader, scope: Scope, waves: list[Wave], now_ms: int) -> str:
    """The latest wave in a sentence."""
    if not waves:
        return ":green[:material/check_circle:] No wave in this range."
    wave = waves[-1]
    kinds = reader.shares("toxicity", scope, wave.from_s, wave.to_s, abusive=True)
    where = reader.shares("language", scope, wave.from_s, wave.to_s, abusive=True)
    going_on = wave.to_s * 1000 > now_ms - 30_000
    when = f"{page.utc(wave.from_s * 1000)[:5]} to {page.utc(wave.to_s * 1000)[:5]} UTC"
    usual = f", usually {wave.usual:.0%}" if wave.usual > 0 else ""
    mostly = ", ".join(
        name
        for name in (
            toxicity_word(kinds[0][0]) if kinds else "",
            language_name(where[0][0]) if where else "",
        )
        if name
    )
    return (
        f":orange[:material/warning:] **{'Wave going on' if going_on else 'Wave'}**, {when}:"
        f" {wave.share:.0%} of {wave.posts:,} posts{usual}; mostly {mostly}."
    )


def _mood(buckets: Sequence[Bucket]) -> str:
    """The shares of the range: the chart's legend, with numbers."""
    counts = [sum(getattr(bucket, name) for bucket in buckets) for name in _SENTIMENTS]
    total = sum(counts) or 1
    return "  ".join(
        f":{colour}[:material/{icon}:] {name} {n / total:.0%}"
        for name, n, (colour, icon) in zip(
            _SENTIMENTS,
            counts,
            (
                ("orange", "sentiment_dissatisfied"),
                ("gray", "sentiment_neutral"),
                ("blue", "sentiment_satisfied"),
            ),
            strict=True,
        )
    )


def _nothing_in_range(newest_ms: int | None) -> None:
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(
            f"##### :material/bedtime: Nothing in the last {_range()}", text_alignment="center"
        )
        if newest_ms is not None:
            st.caption(
                f"The newest post is from {page.utc(newest_ms)}. Choose a longer range, fewer"
                " filters, or send posts:",
                text_alignment="center",
            )
        st.code(page.FEED_COMMAND, language="bash", width=320)
        st.space("small")


def feed_card() -> None:
    """The newest posts, with filters of their own."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**:material/forum: Posts**", width="content")
            st.text_input(
                "Search in texts",
                key="text",
                bind="query-params",
                type="search",
                live="400ms",
                placeholder="Search in texts",
                label_visibility="collapsed",
                max_chars=200,
            )
            _filters()
        _feed()


def _filters() -> None:
    chosen = sum(bool(st.session_state.get(key)) for key in ("toxicity", "sentiment", "author")) + (
        tuple(st.session_state.get("score", (0.0, 1.0))) != (0.0, 1.0)
    )
    label = f"Filters · {chosen}" if chosen else "Filters"
    with st.popover(label, icon=":material/filter_list:", key="filters"):
        st.pills(
            "Toxicity",
            list(_TOXICITY),
            selection_mode="multi",
            key="toxicity",
            bind="query-params",
        )
        st.slider(
            "Toxicity score",
            0.0,
            1.0,
            (0.0, 1.0),
            step=0.05,
            key="score",
            bind="query-params",
        )
        st.pills(
            "Sentiment",
            _SENTIMENTS,
            selection_mode="multi",
            key="sentiment",
            bind="query-params",
        )
        st.text_input(
            "Author",
            key="author",
            bind="query-params",
            placeholder="exactly as shown",
            max_chars=120,
        )
        st.caption(f"A search in texts looks at the newest {SEARCHED_POSTS:,} posts.")


def _filter() -> FeedFilter:
    state = st.session_state
    low, high = state.get("score") or (0.0, 1.0)
    return FeedFilter(
        sentiments=tuple(state.get("sentiment") or ()),
        toxicity=tuple(_TOXICITY[word] for word in state.get("toxicity") or ()),
        score_from=low,
        score_to=high,
        author=(state.get("author") or "").strip(),
        text=(state.get("text") or "").strip(),
        until_ms=state.get("paused_at_ms"),
    )


def _feed() -> None:
    @st.fragment(run_every=_every(2))
    def draw() -> None:
        scope, wanted = _scope(), _filter()
        with page.reading() as reader:
            if reader is None:
                return
            posts = reader.feed(scope, wanted, _FEED_POSTS)
        show_feed(
            posts,
            key="feed",
            filter_key=repr((scope, wanted)),
            nothing="No post passes these filters. They are in the address of this page: "
            "clear one, or wait for a post that does.",
            height=_FEED_HEIGHT,
            on_open=open_post,
        )

    draw()
