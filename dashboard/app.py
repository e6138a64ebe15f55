"""The dashboard: `streamlit run` this file, or better `tidegate dashboard`, which starts all it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st

from dashboard.signed_in import gate, somebody_is_in

_HERE = Path(__file__).parent

# A file, because Streamlit's named icons would be fetched from a font server for the tab.
st.set_page_config(
    page_title="Tidegate", page_icon=_HERE / "components" / "icon.svg", layout="wide"
)
st.logo(_HERE / "components" / "logo.svg", size="large")

#: File, title, icon and what is there; the first is where one begins.
_PAGES: Final = (
    (
        "live",
        "Live",
        "monitoring",
        "Posts as they are labelled: rates, abuse, sentiment, languages and the feed.",
    ),
    (
        "trends",
        "Trends",
        "trending_up",
        "Any period against the one before: languages, sources, tags, terms, topics.",
    ),
    (
        "review",
        "Review",
        "rate_review",
        "Posts that wait for a person, one at a time, judged by keyboard.",
    ),
    (
        "rules",
        "Rules",
        "gavel",
        "Every rule with its matches and precision; thresholds; edit, backtest, promote.",
    ),
    (
        "alerts",
        "Alerts",
        "notifications",
        "What fires and what fired: the chart that made it, examples, acknowledge, mute.",
    ),
    (
        "models",
        "Models",
        "model_training",
        "What labels the posts: cards, dev figures, calibration, drift, overrides.",
    ),
    (
        "audit",
        "Audit",
        "receipt_long",
        "Every decision and every human action, chained, with filters and export.",
    ),
    (
        "system",
        "System",
        "dns",
        "Backlog per partition, latency, dead letters, models, projector and broker.",
    ),
)
page = st.navigation(
    [
        st.Page(
            _HERE / "app_pages" / f"{name}.py",
            title=title,
            icon=f":material/{icon}:",
            help=what,
            default=number == 0,
        )
        for number, (name, title, icon, what) in enumerate(_PAGES)
    ],
    position="top" if somebody_is_in() else "hidden",
)
# Before any page: who is not signed in, where that is needed, sees nothing else.
gate()
page.run()
