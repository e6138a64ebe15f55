"""The rules as a table, and one rule in full; promote and demote."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from dashboard import acting, page
from dashboard.drawing import show_chart
from dashboard.people import Role
from dashboard.policy_desk import PolicyFile, files_of, save
from dashboard.policy_in_force import forget_policy, policy_in_force
from dashboard.policy_text import rule_block, with_key
from dashboard.queries.rules import HOUR_S, matched_posts, rule_hours
from dashboard.rule_charts import matches_chart
from dashboard.rule_rows import RuleRow, newest_change, precision_words, rule_changes, rule_rows
from stream.errors import ConfigError
from stream.policy.reasons import REASONS

_MODE_WORDS: Final = {"live": "● live", "shadow": "◐ shadow", "off": "○ off", "gone": "– gone"}
_SAMPLES: Final = 8


def table() -> None:
    """Every rule, and below it the one that is chosen; the choice is in the URL."""
    policy = policy_in_force()
    assert policy is not None
    with page.reading() as reader:
        if reader is None:
            return
        changes = newest_change(rule_changes(reader.db))
        rows = rule_rows(reader.db, policy, page.now_ms() // 1000, changes, "%Y-%m-%d %H:%M UTC")
    modes = st.pills(
        "Mode",
        ["live", "shadow", "off", "gone"],
        selection_mode="multi",
        key="mode",
        bind="query-params",
        label_visibility="collapsed",
    )
    shown = [row for row in rows if not modes or row.mode in modes]
    if not shown:
        st.info("No rule is in this mode.", icon=":material/filter_list:")
        return
    st.dataframe(
        _frame(shown),
        hide_index=True,
        placeholder="–",
        height=min(36 * len(shown) + 40, 340),
        column_config={
            "Matches by hour": st.column_config.BarChartColumn(
                help="The last 24 hours, UTC, one bar an hour; each row on its own scale.",
                width="medium",
            ),
            "Matches/h": st.column_config.NumberColumn(format="%.1f", help="Mean of those hours."),
            "Precision": st.column_config.ProgressColumn(
                min_value=0,
                max_value=1,
                format="percent",
                help="Judged matches that people upheld, with an action at least as strict as flag.",
            ),
            "95 % interval": st.column_config.TextColumn(help="Wilson's score interval."),
        },
        on_select=lambda: _chosen([row.id for row in shown]),
        selection_mode="single-row",
        key="rules-table",
    )
    names = [row.id for row in rows]
    name = st.selectbox("Rule", names, key="rule", bind="query-params")
    row = next((row for row in rows if row.id == name), None)
    if row is not None:
        _details(row)


def _chosen(names: list[str]) -> None:
    rows = st.session_state["rules-table"]["selection"]["rows"]
    if rows and rows[0] < len(names):
        st.session_state["rule"] = names[rows[0]]


def _frame(rows: list[RuleRow]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Rule": [row.id for row in rows],
            "Mode": [_MODE_WORDS[row.mode] for row in rows],
            "Action": [row.action for row in rows],
            "Severity": [row.severity for row in rows],
            "Matches/h": [row.per_hour for row in rows],
            "Matches by hour": [list(row.hours) for row in rows],
            "Precision": [row.precision.value for row in rows],
            "95 % interval": [_interval(row) for row in rows],
            "Judged": [row.precision.judged for row in rows],
            "Last change": [row.changed or "not from here" for row in rows],
        }
    )


def _interval(row: RuleRow) -> str:
    found = row.precision.interval
    return "" if found is None else f"{found[0]:.0%} to {found[1]:.0%}"


def _details(row: RuleRow) -> None:
    left, right = st.columns([1.1, 1], gap="small")
    with left, st.container(border=True, gap="small"):
        _text_of(row)
        _mode_buttons(row)
    with right, st.container(border=True, gap="small"):
        now_s = page.now_ms() // 1000
        to_s = now_s // HOUR_S * HOUR_S + HOUR_S
        with page.reading() as reader:
            if reader is None:
                return
            hours = rule_hours(reader.db, row.id, to_s - 24 * HOUR_S, to_s)
            samples = matched_posts(reader.db, row.id, _SAMPLES)
        st.markdown(f"**Matches an hour**  \n:small[{precision_words(row.precision)}]")
        show_chart(
            matches_chart(hours, to_s - 24 * HOUR_S, to_s, dark=page.dark()),
            alt=f"Bars: matches of rule {row.id} in each of the last 24 hours, UTC, live and shadow.",
        )
    if samples:
        with st.expander("Newest posts that it matched", icon=":material/visibility_off:"):
            st.dataframe(
                pd.DataFrame(
                    {
                        "Posted": [page.utc(posted) for _, posted, _, _ in samples],
                        "Action": [action for _, _, _, action in samples],
                        "Text": [" ".join(text.split())[:300] for _, _, text, _ in samples],
                        "Post": [post_id for post_id, _, _, _ in samples],
                    }
                ),
                hide_index=True,
                placeholder="–",
            )


def _text_of(row: RuleRow) -> None:
    rule = row.rule
    if rule is None:
        st.markdown("**This rule is not in the policy any more.** Its past matches are counted.")
        return
    st.text(rule.description or "No description.")
    st.code(rule.when.strip(), language="python", wrap_lines=True)
    meaning = REASONS.get(rule.reason, "")
    facts = [
        f"version {rule.version}",
        f"{rule.action}, {rule.severity}",
        f"{rule.reason}: {meaning}",
        f"languages {', '.join(rule.languages)}" if rule.languages else "all languages",
        f"quota {rule.quota:,} a day" if rule.quota is not None else "no quota",
        f"until {rule.expires_at:%Y-%m-%d}" if rule.expires_at else "",
        f"last change {row.changed}" if row.changed else "",
    ]
    st.caption(" · ".join(fact for fact in facts if fact))


def _mode_buttons(row: RuleRow) -> None:
    rule, who = row.rule, acting.person()
    if rule is None or who is None:
        return
    may = who.may(Role.ADMIN)
    with st.container(horizontal=True, gap="small"):
        if rule.mode != "live" and st.button(
            "Promote to live", icon=":material/bolt:", type="primary", disabled=not may
        ):
            _confirm(row, "live")
        if rule.mode != "shadow" and st.button(
            "Move to shadow", icon=":material/contrast:", disabled=not may
        ):
            _confirm(row, "shadow")
        if st.button("Edit", icon=":material/edit:", disabled=not may):
            st.session_state["edit_part"] = row.id
            st.session_state["go_to_view"] = "Edit"
            st.rerun()
    if not may:
        st.caption("Changing rules is for the role admin.")


@st.dialog("Change a rule's mode", icon=":material/gavel:")
def _confirm(row: RuleRow, mode: str) -> None:
    assert row.rule is not None
    st.markdown(f"`{row.id}`: from **{row.rule.mode}** to **{mode}**.")
    if mode == "live":
        st.markdown(
            f"It matches **{row.per_hour:,.1f}** posts an hour and would **{row.rule.action}** them."
            f" Precision: **{precision_words(row.precision)}**."
        )
        if row.precision.judged < 20:
            st.warning(
                "Fewer than 20 of its matches were judged: the interval is wide. A backtest, or some"
                " reviews first, would say more.",
                icon=":material/warning:",
            )
    else:
        st.markdown("It goes on matching and being counted, and acts on nothing.")
    st.caption("Workers take it up within five seconds. The audit keeps who did it.")
    if st.button("Do it", type="primary"):
        with acting.attempt("Not changed"):
            _set_mode(row.id, mode)
            st.toast(f"`{row.id}` is {mode} now", icon=":material/check_circle:")
        if acting.failure() is None:
            st.rerun()
        acting.show_failure()


def _set_mode(rule: str, mode: str) -> None:
    setting = page.settings().policy.path
    file = file_of(rule, files_of(setting))
    text = with_key(file.text, rule, "mode", mode)
    save(acting.actor(), acting.writer(), file, text, page.now_ms(), setting=setting)
    forget_policy()


def file_of(rule: str, files: list[PolicyFile]) -> PolicyFile:
    """The file that a rule stands in.

    Raises:
        ConfigError: in none of them.
    """
    for file in files:
        try:
            rule_block(file.text, rule)
        except ConfigError:
            continue
        return file
    raise ConfigError(f"the rule `{rule}` is in no file of the policy", hint="read the page again")
