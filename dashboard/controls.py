"""What the Live page is asked: range, scope, pause. All but the pause are in the URL.

Widgets write Streamlit's session state; the functions below are how the other parts read it.
"""

from __future__ import annotations

import streamlit as st

from dashboard import page
from dashboard.figures import RANGES
from dashboard.languages import language_code, language_name
from dashboard.scope import Scope


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
            page.names("sources"),
            key="source",
            bind="query-params",
            accept_new_options=True,
            placeholder="All sources",
            label_visibility="collapsed",
            width=210,
        )
        st.multiselect(
            "Languages",
            page.names("languages"),
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


@st.fragment(run_every=page.LOOK_S)
def _freshness() -> None:
    with (
        st.container(horizontal=True, horizontal_alignment="right"),
        page.reading() as reader,
    ):
        page.live_badge({} if reader is None else reader.status(), page.now_ms())


def _paused() -> None:
    st.session_state["paused_at_ms"] = page.now_ms() if st.session_state["paused"] else None


def at_ms() -> int:
    """The moment the page shows: now, or when it was paused."""
    return st.session_state.get("paused_at_ms") or page.now_ms()


def every(seconds: float) -> float | None:
    """How often a part updates; never while paused."""
    return None if st.session_state.get("paused_at_ms") else seconds


def scope() -> Scope:
    """The sources and languages chosen."""
    state = st.session_state
    return Scope(
        tuple(state.get("source", ())),
        tuple(language_code(name) for name in state.get("language", ())),
    )


def range_name() -> str:
    """The range chosen, as in `RANGES`."""
    chosen: str = st.session_state.get("range") or "15 min"
    return chosen
