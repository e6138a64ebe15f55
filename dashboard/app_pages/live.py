"""Live: what is being said now, and how it was labelled."""

from __future__ import annotations

import streamlit as st

from dashboard import controls, headline, page
from dashboard.feed_card import feed_card
from dashboard.panels import panels
from dashboard.post_drawer import show_post_of_url

controls.controls()
headline.status_line()
with page.reading() as reader:
    empty = reader is None or reader.newest_post_ms() is None
if empty:
    headline.first_steps()
else:
    headline.headline()
    left, right = st.columns([1.32, 1], gap="small")
    with left:
        panels()
    with right:
        feed_card()
show_post_of_url()
