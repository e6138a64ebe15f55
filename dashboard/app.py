"""The dashboard: `streamlit run` this file, or better `tidegate dashboard`, which starts all it needs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.signed_in import gate

_HERE = Path(__file__).parent

# A file, because Streamlit's named icons would be fetched from a font server for the tab.
st.set_page_config(
    page_title="Tidegate", page_icon=_HERE / "components" / "icon.svg", layout="wide"
)
st.logo(_HERE / "components" / "logo.svg", size="large")

# Before any page: who is not signed in, where that is needed, sees nothing else.
gate()

page = st.navigation(
    [
        st.Page(
            _HERE / "app_pages" / "live.py",
            title="Live",
            icon=":material/monitoring:",
            help="Posts as they are labelled: rates, abuse, sentiment, languages and the feed.",
            default=True,
        ),
        st.Page(
            _HERE / "app_pages" / "trends.py",
            title="Trends",
            icon=":material/trending_up:",
            help="Any period against the one before: languages, sources, tags, terms, topics.",
        ),
        st.Page(
            _HERE / "app_pages" / "review.py",
            title="Review",
            icon=":material/rate_review:",
            help="Posts that wait for a person, one at a time, judged by keyboard.",
        ),
        st.Page(
            _HERE / "app_pages" / "rules.py",
            title="Rules",
            icon=":material/gavel:",
            help="Every rule with its matches and precision; thresholds; edit, backtest, promote.",
        ),
        st.Page(
            _HERE / "app_pages" / "alerts.py",
            title="Alerts",
            icon=":material/notifications:",
            help="What fires and what fired: the chart that made it, examples, acknowledge, mute.",
        ),
        st.Page(
            _HERE / "app_pages" / "models.py",
            title="Models",
            icon=":material/model_training:",
            help="What labels the posts: cards, dev figures, calibration, drift, overrides.",
        ),
        st.Page(
            _HERE / "app_pages" / "audit.py",
            title="Audit",
            icon=":material/receipt_long:",
            help="Every decision and every human action, chained, with filters and export.",
        ),
        st.Page(
            _HERE / "app_pages" / "system.py",
            title="System",
            icon=":material/dns:",
            help="Backlog per partition, latency, dead letters, models, projector and broker.",
        ),
    ],
    position="top",
)
page.run()
