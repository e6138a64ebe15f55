"""Who changed which rule, from what to what: the audit's word."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import page
from dashboard.rule_rows import change_lines, rule_changes


def changes() -> None:
    """Every change that was made here, the newest first."""
    with page.reading() as reader:
        found = [] if reader is None else rule_changes(reader.db)
    if not found:
        st.info(
            "A change that is saved on this page stands here with who made it. Changes made in the"
            " file by hand are the version control's to tell.",
            title="No rule was changed from here yet",
            icon=":material/history:",
        )
        return
    st.dataframe(
        pd.DataFrame(
            [
                {
                    "When (UTC)": page.utc(entry.at_ms),
                    "Who": entry.who,
                    "Rule": entry.on,
                    "Field": field,
                    "Before": before,
                    "After": after,
                    "Entry": entry.hash[:12],
                }
                for entry in found
                for field, before, after in change_lines(entry)
            ]
        ),
        hide_index=True,
        height="content" if len(found) < 12 else 480,
    )
    st.caption("Each entry is part of the audit's chain of hashes: `tidegate audit verify`.")
