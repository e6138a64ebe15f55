"""The feed of the Live page and its filters, which are in the URL."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboard import controls, page
from dashboard.feed import show_feed, toxicity_word
from dashboard.post_drawer import open_post
from dashboard.reader import SEARCHED_POSTS
from dashboard.scope import SENTIMENTS, FeedFilter
from stream.outcomes import Action

_FEED_POSTS: Final = 60
_FEED_HEIGHT: Final = 440
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
    chosen = sum(
        bool(st.session_state.get(key)) for key in ("toxicity", "sentiment", "action", "author")
    ) + (tuple(st.session_state.get("score", (0.0, 1.0))) != (0.0, 1.0))
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
            SENTIMENTS,
            selection_mode="multi",
            key="sentiment",
            bind="query-params",
        )
        st.pills(
            "Action",
            [action.value for action in Action],
            selection_mode="multi",
            key="action",
            bind="query-params",
        )
        st.text_input(
            "Author",
            key="author",
            bind="query-params",
            placeholder="exactly as shown",
            max_chars=120,
        )
        st.caption(
            f"Text, score, action and source are looked for in the newest {SEARCHED_POSTS:,} posts."
        )


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
        actions=tuple(state.get("action") or ()),
    )


def _feed() -> None:
    @st.fragment(run_every=controls.every(2))
    def draw() -> None:
        scope, wanted = controls.scope(), _filter()
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
