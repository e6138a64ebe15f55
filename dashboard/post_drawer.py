"""Everything known about one post, in a drawer beside the page; `?post=ID` opens it."""

from __future__ import annotations

from typing import Final

import msgspec
import streamlit as st

from dashboard import page
from dashboard.feed import show_details, show_feed, show_why
from dashboard.post_why import decided_facts, explained, thresholds_of
from dashboard.scope import FeedFilter, Scope
from stream.errors import TidegateError
from stream.records import Label, decode_label

_PARAMETER: Final = "post"
_AUTHORS_POSTS: Final = 5


def open_post(post_id: str) -> None:
    """Show this post in the drawer: a callback, because only the whole page can open one."""
    st.session_state["open_post"] = post_id
    st.rerun()


def show_post_of_url() -> None:
    """Open the drawer for the post in the address, or for the one just clicked."""
    clicked = st.session_state.pop("open_post", None)
    if clicked is not None:
        st.query_params[_PARAMETER] = clicked
    post_id = st.query_params.get(_PARAMETER)
    if post_id:
        _drawer(post_id)


def _why(label: Label, record: bytes) -> None:
    """The words that drove the labels: scored again without each, when somebody asks."""
    asked = st.expander(
        "Why: the words that drove it", icon=":material/psychology:", key="why", on_change="rerun"
    )
    if not asked.open:  # it shows a veiled text, so it waits until it is wanted
        return
    with asked:
        try:
            with st.spinner("Scoring the text without each of its words"):
                found = explained(label.label_id, record)
        except TidegateError as error:
            st.error(
                error.hint or "",
                title=f"{error.message[:1].upper()}{error.message[1:]}",
                icon=":material/error:",
            )
            return
        if not found:
            st.caption("There are no words in it.")
            return
        show_why(found, key=f"why-{label.label_id}")
        st.caption(
            "Each part is taken out and the text scored again: orange and underlined speaks for the"
            " label, blue and dotted against it."
        )


def _close() -> None:
    st.query_params.pop(_PARAMETER, None)


@st.dialog("Post", position="right", width=560, icon=":material/article:", on_dismiss=_close)
def _drawer(post_id: str) -> None:
    with page.reading() as reader:
        found = None if reader is None else reader.post(post_id)
        retracted = reader is not None and reader.retracted(post_id)
        if found is not None and reader is not None and found[0].author:
            others = reader.feed(Scope(), FeedFilter(author=found[0].author), _AUTHORS_POSTS + 1)
        else:
            others = []
        decided = [] if reader is None else decided_facts(reader.db, post_id)
    if found is None:
        if retracted:
            st.info("Its text and labels are gone from here too.", title="The author deleted this post", icon=":material/delete:")  # fmt: skip
        else:
            st.info("It may be older than what the read model keeps.", title="This post is not here", icon=":material/search_off:")  # fmt: skip
        return
    view, record = found
    label = decode_label(record)
    show_details(
        view,
        label,
        key=f"details-{post_id}",
        thresholds=thresholds_of(label),
        decided=decided,
    )
    _why(label, record)
    others = [other for other in others if other.post_id != post_id][:_AUTHORS_POSTS]
    if others:
        st.markdown("**:material/person: By the same author**")
        show_feed(
            others,
            key="author-posts",
            filter_key=post_id,
            nothing="",
            height=None,
            on_open=open_post,
        )
    raw = st.expander("Raw record", icon=":material/data_object:", key="raw", on_change="rerun")
    if raw.open:  # until it is asked for, a veiled text is not on the page in another place either
        raw.code(msgspec.json.format(record, indent=2).decode(), language="json", wrap_lines=True)
