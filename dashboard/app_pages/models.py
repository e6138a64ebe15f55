"""Models: what labels the posts, how good it was measured to be, and whether that still holds."""

from __future__ import annotations

import streamlit as st

from dashboard import headline, models_view
from stream.errors import TidegateError

models_view.pickers()
headline.status_line()
try:
    facts = models_view.facts()
except TidegateError as error:
    facts = []
    st.error(
        f"{error.message}. {error.hint or ''}",
        title="The manifest cannot be read",
        icon=":material/error:",
    )
if facts:
    models_view.cards(facts)
    left, right = st.columns(2, gap="small")
    with left:
        models_view.drift(facts)
        models_view.override_rate()
    with right:
        models_view.languages(facts)
    models_view.calibration(facts)
    models_view.figures(facts)
