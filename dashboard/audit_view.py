"""The audit: every decision and every human action, its filters, its export, its chains' state."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

import pandas as pd
import streamlit as st

from dashboard import acting, actions, page
from dashboard.audit_export import as_csv, jsonl
from dashboard.audit_verifier import Verifier
from dashboard.people import Person
from dashboard.queries.audit import (
    AuditFilter,
    AuditView,
    Chain,
    audit_entries,
    export_entries,
)

_RANGES: Final = {"1 h": 3600, "24 h": 86_400, "7 d": 7 * 86_400, "30 d": 30 * 86_400, "All": None}
_KINDS: Final = {
    "Everything": "",
    "Decisions": "decision.",
    "Reviews": "review.",
    "Rules": "rule.",
    "Alerts": "alert.",
    "Dead letters": "dead-letter.",
    "Sign-ins": "sign-in.",
    "Exports": "audit.",
}
_PAGE: Final = 200
_EXPORT_MOST: Final = 200_000


def controls() -> None:
    """What is looked for; all of it in the URL."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Range", list(_RANGES), default="24 h", required=True, key="within",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        st.selectbox(
            "Kind", list(_KINDS), key="kind", bind="query-params", label_visibility="collapsed",
            width=150,
        )  # fmt: skip
        st.text_input(
            "Who", key="who", bind="query-params", placeholder="Who (pseudonym)",
            label_visibility="collapsed", max_chars=120, width=170,
        )  # fmt: skip
        st.text_input(
            "On what", key="on", bind="query-params", placeholder="On what: post, rule, alert",
            label_visibility="collapsed", max_chars=300, width=230,
        )  # fmt: skip
        st.toggle(
            "People only", key="people", bind="query-params", help="Without the policy's decisions."
        )


def wanted() -> AuditFilter:
    """The filter that the controls say."""
    state = st.session_state
    length = _RANGES[state.get("within") or "24 h"]
    return AuditFilter(
        who=(state.get("who") or "").strip(),
        what=_KINDS[state.get("kind") or "Everything"],
        on=(state.get("on") or "").strip(),
        from_ms=None if length is None else page.now_ms() - length * 1000,
        people_only=bool(state.get("people")),
    )


@st.cache_resource(max_entries=4)
def _verifier(database: str) -> Verifier:  # noqa: ARG001 - it keys the cache
    return Verifier(page.settings().dashboard.database)


@st.fragment(run_every=2)
def chain_state() -> None:
    """Whether the chains hold, and up to where; they are read beside the page."""
    again = bool(st.session_state.pop("verify_now", False))
    verifier = _verifier(str(page.settings().dashboard.database))
    found, reading = verifier.ask(page.now_ms(), again=again)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if reading:
            st.badge("reading the chains", icon=":material/hourglass_top:", color="gray")
        if found is None:
            return
        entries = sum(chain.entries for chain in found.chains)
        if found.broken:
            st.badge("chain broken", icon=":material/link_off:", color="red")
        elif entries:
            st.badge(
                f"chain whole: {entries:,} entries, verified up to {page.utc(found.at_ms)}",
                icon=":material/link:",
                color="green",
            )
        else:
            st.badge("no entry yet", icon=":material/hourglass_empty:", color="gray")
        st.button(
            "Verify now",
            icon=":material/verified:",
            type="tertiary",
            disabled=reading,
            on_click=lambda: st.session_state.update(verify_now=True),
        )
        with st.popover("Chains", icon=":material/lan:", type="tertiary"):
            st.dataframe(_chain_frame(found.chains), hide_index=True)
            st.caption(
                "Each entry's hash takes in the one before: a change, a removal or an insertion shows."
                " `tidegate audit verify` reads them too."
            )
    if found.broken:
        st.error(
            "Do not rely on entries from there on. Rebuild the read model from the topics and compare.",
            title="The audit is broken",
            icon=":material/link_off:",
        )
        st.code(found.broken, language=None, wrap_lines=True)


def _chain_frame(found: list[Chain]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Topic": [chain.topic for chain in found],
            "Partition": [chain.partition for chain in found],
            "Entries": [chain.entries for chain in found],
            "From offset": [chain.first_offset for chain in found],
            "Up to offset": [chain.next_offset - 1 for chain in found],
            "Older ones": ["expired" if chain.first_prev else "none" for chain in found],
            "Last hash": [chain.hash[:16] for chain in found],
        }
    )


def entries() -> None:
    """The entries that pass, the newest first, page by page."""
    looked_for = wanted()
    before: list[int] = st.session_state.setdefault("audit_before", [])
    question = repr(_key(looked_for))
    if st.session_state.get("audit_question") != question:
        st.session_state["audit_question"] = question
        before.clear()
    with page.reading() as reader:
        if reader is None:
            return
        found = audit_entries(reader.db, looked_for, _PAGE, before[-1] if before else None)
    if not found:
        st.info(
            "Nothing passes these filters. They are in the address of this page.",
            icon=":material/search_off:",
        )
    else:
        st.dataframe(
            _frame(found),
            hide_index=True,
            height=430,
            column_config={"Detail": st.column_config.TextColumn(width="large")},
        )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("Newer", icon=":material/chevron_left:", disabled=not before, on_click=_newer)
        st.button(
            "Older",
            icon=":material/chevron_right:",
            disabled=len(found) < _PAGE,
            on_click=_older,
            args=(found[-1].id if found else 0,),
        )
        if found:
            st.caption(f"{page.utc(found[-1].at_ms)} to {page.utc(found[0].at_ms)}")


def _key(looked_for: AuditFilter) -> tuple[Any, ...]:
    """What makes it another question; the range moves with the clock and does not."""
    return (
        looked_for.who,
        looked_for.what,
        looked_for.on,
        looked_for.people_only,
        st.session_state.get("within"),
    )


def _older(last_id: int) -> None:
    st.session_state["audit_before"].append(last_id)


def _newer() -> None:
    st.session_state["audit_before"].pop()


def _frame(found: list[AuditView]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "When": [page.utc(entry.at_ms) for entry in found],
            "Who": [entry.who or "policy" for entry in found],
            "What": [entry.what for entry in found],
            "On": [entry.on for entry in found],
            "Detail": [detail_words(entry.detail) for entry in found],
            "Place": [f"{entry.topic}[{entry.partition}]@{entry.offset}" for entry in found],
            "Hash": [entry.hash[:12] for entry in found],
        }
    )


def detail_words(detail: str) -> str:
    """An entry's detail in a line: names and values, those that are empty left out."""
    try:
        values = json.loads(detail or "{}")
    except ValueError:
        return detail
    if not isinstance(values, dict):
        return detail
    return " · ".join(
        _named(name, value) for name, value in values.items() if value not in (None, "", [], {})
    )


def _named(name: str, value: Any) -> str:
    if name == "fields" and isinstance(value, list):
        changes = [each for each in value if isinstance(each, dict)]
        return "; ".join(
            f"{each.get('field')}: {each.get('before') or 'none'} → {each.get('after') or 'none'}"
            for each in changes
        )
    if name.endswith("_ms") and isinstance(value, int):
        return f"{name.removesuffix('_ms')} {page.utc(value)}"
    shown = value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)
    return f"{name} {shown}"


def export(person: Person) -> None:
    """What passes the filters, as a file; that it was taken is in the audit too."""
    looked_for = wanted()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for words, suffix, mime in (
            ("JSON lines", "jsonl", "application/x-ndjson"),
            ("CSV", "csv", "text/csv"),
        ):
            st.download_button(
                words,
                functools.partial(_file, person, looked_for, suffix),
                file_name=f"tidegate-audit.{suffix}",
                mime=mime,
                icon=":material/download:",
                key=f"export-{suffix}",
            )
        st.caption(f"All that passes the filters, {_EXPORT_MOST:,} entries at most.")


def _file(person: Person, looked_for: AuditFilter, suffix: str) -> bytes:
    from itertools import islice

    detail = {"format": suffix, "who": looked_for.who, "what": looked_for.what, "on": looked_for.on}
    # First the note, then the file: an export that nobody can be asked about is none.
    actions.note_event(
        person, acting.writer(), "audit.export", "audit", page.now_ms(), detail=detail
    )
    with page.reading() as reader:
        if reader is None:
            return b""
        found = islice(export_entries(reader.db, looked_for), _EXPORT_MOST)
        return jsonl(found) if suffix == "jsonl" else as_csv(found)
