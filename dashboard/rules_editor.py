"""A policy's text: edited, checked while it is typed, compared, backtested, saved.

Invariant: what is checked, compared and backtested is the whole policy with the draft in it, and
that is what is saved.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Final

import pandas as pd
import streamlit as st

from dashboard import acting, page
from dashboard.people import Role
from dashboard.policy_desk import PolicyFile, Trial, files_of, save, trial
from dashboard.policy_in_force import forget_policy, policy_in_force
from dashboard.policy_text import rule_block
from dashboard.rules_backtest import Outcome, backtest, rule_lines
from stream.errors import ConfigError, TidegateError
from stream.policy import Policy

_ASSETS: Final = Path(__file__).parent / "components"
_WHOLE: Final = "Whole file"
_HEIGHT: Final = 330
_component = st.components.v2.component(
    "tidegate_editor",
    html="<div class='editor'></div>\n",
    css=(_ASSETS / "editor.css").read_text("utf-8"),
    js=(_ASSETS / "editor.js").read_text("utf-8"),
)


def editor() -> None:
    """The draft, its mistakes or its changes, and what to do with it."""
    now = policy_in_force()
    assert now is not None
    try:
        files = files_of(page.settings().policy.path)
    except TidegateError as error:
        st.error(error.message, icon=":material/error:")
        return
    file = _file(files)
    drafts: dict[str, tuple[PolicyFile, str]] = st.session_state.setdefault("drafts", {})
    file, text = drafts.get(str(file.path), (file, file.text))
    part = _part(text)
    left, right = st.columns([1.25, 1], gap="small")
    with left:
        text = _edited(file, text, part)
        drafts[str(file.path)] = (file, text)
        found = trial(page.settings().policy.path, file, text, now)
        _show_editor(file, text, part, found)
    with right:
        _verdict(file, text, found)
    if found.policy is not None and text != file.text:
        _try_and_save(file, text, found.policy, now)


def _file(files: list[PolicyFile]) -> PolicyFile:
    if len(files) == 1:
        return files[0]
    names = {str(file.path): file for file in files}
    chosen = st.selectbox("File", list(names), key="file", bind="query-params")
    return names[chosen]


def _part(text: str) -> str:
    ids = [
        _WHOLE,
        *(
            line.split("id:", 1)[1].split("#")[0].strip()
            for line in text.split("\n")
            if line.lstrip().startswith("- id:")
        ),
    ]
    wanted = st.session_state.pop("edit_part", None)
    if wanted in ids:
        st.session_state["part"] = wanted
    return st.selectbox("Part", ids, key="part", bind="query-params", width=420)


def _window(text: str, part: str) -> tuple[int, int]:
    if part == _WHOLE:
        return 0, len(text)
    try:
        return rule_block(text, part)
    except ConfigError:
        return 0, len(text)


def _document(file: PolicyFile, part: str) -> str:
    """What the browser edits: another one replaces the text in its hands."""
    return f"{file.path}|{file.digest}|{part}|{st.session_state.get('draft_n', 0)}"


def _edited(file: PolicyFile, text: str, part: str) -> str:
    """The draft with what was typed last."""
    typed = (st.session_state.get("editor") or {}).get("text")
    document = _document(file, part)
    windows = st.session_state.setdefault("editor_windows", {})
    if document not in windows:
        windows.clear()
        windows[document] = _window(text, part)
    if not isinstance(typed, dict) or typed.get("document") != document:
        return text
    begin, end = windows[document]
    new = str(typed.get("text", ""))
    windows[document] = (begin, begin + len(new))
    return text[:begin] + new + text[end:]


def _show_editor(file: PolicyFile, text: str, part: str, found: Trial) -> None:
    begin, end = st.session_state["editor_windows"][_document(file, part)]
    data: dict[str, Any] = {
        "document": _document(file, part),
        "text": text[begin:end],
        "first": text.count("\n", 0, begin) + 1,
        "wrong": list(found.lines),
        "label": f"Text of {file.path.name}, {part}",
        "height": _HEIGHT,
    }
    _component(key="editor", data=data, on_text_change=lambda: None)


def _verdict(file: PolicyFile, text: str, found: Trial) -> None:
    if found.policy is None:
        st.markdown("**:red[:material/error:] Not a policy yet**")
        st.code(found.mistakes, language=None, height=_HEIGHT - 40, wrap_lines=False)
        return
    if text == file.text:
        st.markdown("**:material/check_circle: As it is in force**")
        st.caption(
            f"`{file.path}`, policy `{found.policy.version}`. Type, and every mistake shows here with its"
            " line; what is right shows as a difference."
        )
        return
    st.markdown("**:green[:material/check_circle:] Loads without a mistake**")
    rows = [
        {
            "": {"added": "+", "removed": "−", "changed": "±"}[change.kind],
            "What": f"{change.what} {change.id}",
            "Field": field.field,
            "In force": field.old or "",
            "Draft": field.new or "",
        }
        for change in found.changes
        for field in change.fields
    ]
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, height=min(36 * len(rows) + 40, 220))
    else:
        st.caption("Comments, tests or layout only: no decision would be another.")
    silent = [change.id for change in found.changes if change.silent]
    if silent:
        st.warning(
            f"`{'`, `'.join(silent)}` decides otherwise under the same version: raise `version`, so"
            " that its decisions can be told apart.",
            icon=":material/warning:",
        )
    with st.expander("Lines", icon=":material/difference:"):
        st.code(text_difference(file.text, text), language="diff")


def text_difference(old: str, new: str) -> str:
    """The lines that differ, with three around them."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "in force", "draft", lineterm=""
    )
    return "\n".join(lines)


def _try_and_save(file: PolicyFile, text: str, policy: Policy, now: Policy) -> None:
    who = acting.person()
    may = who is not None and who.may(Role.ADMIN)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        run = st.button("Backtest", icon=":material/experiment:")
        if st.button("Save", icon=":material/save:", type="primary", disabled=not may):
            with acting.attempt("Not saved"):
                save(
                    acting.actor(),
                    acting.writer(),
                    file,
                    text,
                    page.now_ms(),
                    setting=page.settings().policy.path,
                )
                _forget_drafts()
                forget_policy()
                st.toast(
                    "Saved. Workers take it up within five seconds.", icon=":material/check_circle:"
                )
            if acting.failure() is None:
                st.rerun()
        if st.button("Discard", icon=":material/undo:"):
            _forget_drafts()
            st.rerun()
        if not may:
            st.caption("Saving is for the role admin.")
        elif file.target != file.path:
            st.caption(f"The starter pack is not changed: it is saved as `{file.target}`.")
    acting.show_failure()
    results: dict[str, Outcome] = st.session_state.setdefault("backtests", {})
    if run:
        results.clear()
        with page.reading() as reader:
            if reader is None:
                return
            bar = st.progress(0.0, "Reading the newest labels")

            def told(share: float, said: str, bar: Any = bar) -> None:
                bar.progress(share, said)

            results[policy.version] = backtest(reader.db, policy, now, told)
            bar.empty()
    if policy.version in results:
        _show_outcome(results[policy.version], policy, now)


def _show_outcome(outcome: Outcome, policy: Policy, now: Policy) -> None:
    tally = outcome.tally
    changed = sum(change.posts for change in tally.changes.values())
    cut = " It was cut off: the rest would have taken too long." if outcome.cut else ""
    st.markdown(
        f"**{changed:,}** of {tally.labels:,} stored labels would be decided otherwise;"
        f" strong actions {tally.strong_before:,} → {tally.strong:,};"
        f" {tally.judged:,} of the posts were judged by people."
    )
    st.caption(
        f"{tally.labels:,} labels in {outcome.seconds:.1f} s.{cut} Quotas do not trip here."
        " `tidegate policy backtest` reads the whole topic."
    )
    rows = rule_lines(outcome, policy, now)
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    samples = [
        {
            "Change": name.replace(">", " → "),
            "Judged": sample.judged or "",
            "Text": " ".join(sample.text.split()),
            "Post": sample.post_id,
        }
        for name, change in tally.changes.items()
        for sample in change.samples
    ]
    if samples:
        with st.expander("Posts that would be decided otherwise", icon=":material/visibility_off:"):
            st.dataframe(pd.DataFrame(samples), hide_index=True)


def _forget_drafts() -> None:
    st.session_state["drafts"] = {}
    st.session_state["draft_n"] = st.session_state.get("draft_n", 0) + 1
