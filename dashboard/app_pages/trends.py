"""Trends: what changed over any period, against the one before, and what made it change."""

from __future__ import annotations

import streamlit as st

from dashboard import headline, page, trends_breakdown, trends_topics, trends_view
from dashboard.post_drawer import show_post_of_url

_LOOKS = {
    "Breakdown": trends_breakdown.by_group,
    "Rising": trends_breakdown.rising,
    "Authors and domains": trends_breakdown.leading,
    "Topics and brands": trends_topics.topics,
}

with page.reading() as reader:
    empty = reader is None or reader.newest_post_ms() is None
if not empty:
    trends_view.pickers()
headline.status_line()
if empty:
    headline.first_steps()
else:
    trends_view.overview()
    with st.container(border=True, gap="small"):
        look = st.segmented_control(
            "Look at",
            list(_LOOKS),
            default="Breakdown",
            required=True,
            key="look",
            bind="query-params",
            label_visibility="collapsed",
        )
        _LOOKS[look or "Breakdown"]()
show_post_of_url()
