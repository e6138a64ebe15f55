"""Rules: what each one does, what it would do with another threshold, and changing it."""

from __future__ import annotations

import streamlit as st

from dashboard import acting, headline, rule_history, rules_editor, rules_thresholds, rules_view
from dashboard.people import Role
from dashboard.policy_in_force import policy_error, policy_in_force

VIEWS = {
    "Rules": rules_view.table,
    "Thresholds": rules_thresholds.thresholds,
    "Edit": rules_editor.editor,
    "Changes": rule_history.changes,
}

headline.status_line()
if acting.person_for(Role.ANALYST) is not None:
    wanted = st.session_state.pop("go_to_view", None)
    if wanted is not None:
        st.session_state["view"] = wanted
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        view = st.segmented_control(
            "View",
            list(VIEWS),
            default="Rules",
            required=True,
            key="view",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.space("stretch")
        policy = policy_in_force()
        if policy is not None:
            st.badge(f"policy {policy.version}", icon=":material/gavel:", color="gray")
    error = policy_error()
    if error is not None:
        st.error(
            "The policy's files have a mistake; the rules before it stay in force.",
            title="The change is not in force",
            icon=":material/error:",
        )
        st.code(getattr(error, "rendered", "") or str(error), language=None)
    if policy is not None:
        VIEWS[view or "Rules"]()
