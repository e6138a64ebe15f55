"""Live: what is being said now, and how it was labelled."""

from __future__ import annotations

import streamlit as st

from dashboard import live, page
from dashboard.post_drawer import show_post_of_url

live.controls()
live.status_line()
with page.reading() as reader:
    empty = reader is None or reader.newest_post_ms() is None
if empty:
    live.first_steps()
else:
    live.headline()
    left, right = st.columns([1.32, 1], gap="small")
    with left:
        live.panels()
    with right:
        live.feed_card()
show_post_of_url()
