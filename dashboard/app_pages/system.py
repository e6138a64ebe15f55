"""System: is everything running, is it keeping up, and what could not be labelled."""

from __future__ import annotations

import streamlit as st

from dashboard import headline, page, system, system_more, system_roles

headline.status_line()
with page.reading() as reader:
    empty = reader is None
if empty:
    headline.first_steps()
else:
    system.components()
    left, right = st.columns(2, gap="small")
    with left:
        system.backlog()
    with right:
        system.latency()
    system_roles.roles()
    system.dead_letters()
    system_more.hooks()
    system.models()
    system_roles.running_models()
    system.notices()
    system_more.configuration()
