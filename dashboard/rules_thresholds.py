"""What a threshold would do, from the scores that are stored, before anything is saved."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from dashboard import acting, page
from dashboard.drawing import show_chart
from dashboard.languages import language_code, language_name
from dashboard.people import Role
from dashboard.policy_desk import files_of
from dashboard.policy_in_force import policy_in_force, threshold_of
from dashboard.policy_text import comparisons, with_raised_version, with_threshold
from dashboard.queries.scores import histogram, score_labels, threshold_figures
from dashboard.rule_charts import score_chart
from dashboard.rules_view import file_of
from stream.policy import Rule

_RANGES: Final = {"1 h": 3600, "24 h": 86_400, "7 d": 7 * 86_400, "30 d": 30 * 86_400}
_EVERYWHERE: Final = "All languages"


def thresholds() -> None:
    """A label, a language, a slider, and what it would flag; all of it in the URL."""
    now_s = page.now_ms() // 1000
    with page.reading() as reader:
        labels = [] if reader is None else score_labels(reader.db)
    languages = page.names("languages")
    labels = [label for label in labels if not label.startswith("language.")]
    if not labels:
        st.info(
            "Scores are stored as labels arrive; there are none yet.",
            title="Nothing to try a threshold on",
            icon=":material/hourglass_empty:",
        )
        return
    label, language, range_name = _controls(labels, languages)
    code = "" if language == _EVERYWHERE else language_code(language)
    task, _, name = label.partition(".")
    own = threshold_of(task, name, code)
    rules = _rules_reading(label)
    start = rules[0][1] if rules else (own if own is not None else 0.5)
    _follow(label, start)
    at = st.slider(
        "Threshold",
        0.0,
        1.0,
        step=0.01,
        key="at",
        bind="query-params",
        help="Posts with a score at or over it.",
    )
    from_s = now_s - _RANGES[range_name]
    chosen = (code,) if code else ()
    now_at = rules[0][1] if rules else start
    with page.reading() as reader:
        if reader is None:
            return
        would, is_now = threshold_figures(
            reader.db, label, (at, now_at), from_s, now_s, languages=chosen
        )
        counts = histogram(reader.db, label, from_s, now_s, languages=chosen)
    with st.grid(4, min_column_width=170, gap="small"):
        st.metric(
            f"Would flag at {at:.2f}",
            f"{would.flagged_an_hour:,.1f} /h",
            delta=f"{would.flagged_an_hour - is_now.flagged_an_hour:+,.1f} /h vs {now_at:.3g}",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help="Posts an hour of the range at or over the threshold, by this label alone.",
        )
        share = would.flagged / would.posts if would.posts else 0.0
        st.metric("Of all posts", f"{share:.2%}", delta=f"{would.flagged:,} of {would.posts:,}", delta_color="off", delta_arrow="off", border=True)  # fmt: skip
        st.metric("Judged by people", f"{would.judged:,}", delta="of those it would flag", delta_color="off", delta_arrow="off", border=True)  # fmt: skip
        fine = (
            f"{would.fine / would.judged:.0%} of the judged"
            if would.judged
            else "nobody judged any"
        )
        st.metric("Judged fine", f"{would.fine:,}", delta=fine, delta_color="off", delta_arrow="off", border=True)  # fmt: skip
    st.caption(
        f"At {at:.2f} it would flag {would.flagged_an_hour:,.1f} posts an hour, {would.judged:,} of"
        f" the range's were judged, {would.fine:,} of them fine. Stored scores of"
        f" {would.posts:,} posts, last {range_name}, in hundredths; nothing is saved."
    )
    with st.container(border=True):
        show_chart(
            score_chart(counts, at, own, dark=page.dark()),
            alt=f"Histogram of {label}: posts by score, on a logarithmic scale; those at or over"
            f" {at:.2f} are marked.",
        )
    _put_into_rule(label, code, at, rules)


def _controls(labels: list[str], languages: list[str]) -> tuple[str, str, str]:
    first = next((n for n, label in enumerate(labels) if label == "toxicity.insult"), 0)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        label = st.selectbox("Label", labels, index=first, key="label", bind="query-params")
        language = st.selectbox(
            "Language",
            [_EVERYWHERE, *(language_name(code) for code in languages)],
            key="lang",
            bind="query-params",
        )
        range_name = st.segmented_control(
            "Range",
            list(_RANGES),
            default="24 h",
            required=True,
            key="scores_range",
            bind="query-params",
        )
    return label, language, range_name or "24 h"


def _follow(label: str, start: float) -> None:
    """Another label begins at its own threshold; a threshold in the address has the first word."""
    state = st.session_state
    before = state.get("at_of")
    state["at_of"] = label
    if "at" not in state or (before is not None and before != label):
        state["at"] = round(start, 2)


def _rules_reading(label: str) -> list[tuple[Rule, float]]:
    """The rules that compare this label with a number, and the number; live and wide first."""
    policy = policy_in_force()
    if policy is None:
        return []
    found = [
        (rule, numbers[0][1])
        for rule in policy.rules
        if rule.mode != "off" and (numbers := comparisons(rule.when, label))
    ]
    return sorted(found, key=lambda each: (each[0].mode != "live", each[1]))


def _put_into_rule(label: str, language: str, at: float, rules: list[tuple[Rule, float]]) -> None:
    if not rules:
        st.caption(f"No rule compares `{label}` with a plain number.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Rule": [rule.id for rule, _ in rules],
                "Mode": [rule.mode for rule, _ in rules],
                "Action": [rule.action for rule, _ in rules],
                "Threshold now": [number for _, number in rules],
                "Condition": [" ".join(rule.when.split()) for rule, _ in rules],
            }
        ),
        hide_index=True,
        placeholder="–",
    )
    who = acting.person()
    may = who is not None and who.may(Role.ADMIN)
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        name = st.selectbox("Rule to change", [rule.id for rule, _ in rules], key="put_rule")
        words = f"Put {at:.2f} into the rule"
        if language:
            words += f", for {language_name(language)}"
        if st.button(words, icon=":material/edit:", disabled=not may, type="primary"):
            with acting.attempt("Not changed"):
                _draft(name, label, at, language)
            acting.show_failure()
    st.caption(
        "It becomes a draft: checked, compared and backtested before it is saved."
        if may
        else "Changing rules is for the role admin."
    )


def _draft(name: str, label: str, at: float, language: str) -> None:
    file = file_of(name, files_of(page.settings().policy.path))
    text = with_threshold(file.text, name, label, at, language)
    if text != file.text:
        text = with_raised_version(text, name)
    st.session_state["drafts"] = {str(file.path): (file, text)}
    st.session_state["edit_part"] = name
    st.session_state["go_to_view"] = "Edit"
    st.rerun()
