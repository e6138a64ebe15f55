"""The head of the pages: how fresh they are, what to do when they are empty, five figures."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import controls, page
from dashboard.figures import Figures, figures, stretch


@st.fragment(run_every=page.LOOK_S)
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

    @st.fragment(run_every=controls.every(2))
    def draw() -> None:
        now = controls.at_ms()
        with page.reading() as reader:
            if reader is None:
                return
            read = figures(reader, controls.scope(), stretch(controls.range_name(), now), now)
        with st.grid(5, min_column_width=150, gap="small"):
            for metric in _metrics(read, controls.range_name()):
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
            **_change(read.abusive_share, read.abusive_share_before, name, good="down"),
            "help": "Posts with any toxicity label, as a share of all; in percentage points against the range before.",
        },
        {
            "label": ":material/mood: Net sentiment",
            "value": "–" if read.net_sentiment is None else f"{read.net_sentiment * 100:+.0f}",
            **_change(read.net_sentiment, read.net_sentiment_before, name, good="up"),
            "help": "Positive less negative posts, of a hundred; against the range before.",
        },
    ]


def _change(now: float | None, before: float | None, name: str, *, good: str) -> dict[str, Any]:
    """The difference in points of a hundred, or that there is nothing to compare with."""
    if now is None or before is None:
        return {"delta": f"no {name} before it", "delta_color": "off", "delta_arrow": "off"}
    return {
        "delta": round((now - before) * 100, 1),
        "delta_description": f"vs {name} before",
        "delta_color": "normal" if good == "up" else "inverse",
    }
