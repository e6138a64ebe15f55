"""A chart on the page. Whether charts are checked first is Altair's own switch, its debug mode.

Altair checks every part of a chart, and then the whole, against Vega-Lite's JSON schema: up to half
of what a page of charts costs. What it finds are mistakes of the code that draws, not of the data,
so the dashboard's server draws without (`draw_unchecked`), and tests check every chart they draw.
"""

from __future__ import annotations

from typing import Any

import streamlit as st
from altair.utils import schemapi


class _Drawn:
    """What Streamlit asks of a chart: its specification, checked in debug mode alone."""

    def __init__(self, chart: Any) -> None:
        self._chart = chart

    def to_dict(self) -> Any:
        """The chart as Vega-Lite's specification."""
        return self._chart.to_dict(validate=schemapi.DEBUG_MODE)


def show_chart(chart: Any, *, alt: str, key: str | None = None) -> None:
    """Draw an Altair chart.

    Args:
        chart: the chart.
        alt: what it shows, for who cannot see it.
        key: of the element, where there are several alike.
    """
    drawn: Any = _Drawn(chart)
    st.altair_chart(drawn, alt=alt, key=key)


def draw_unchecked() -> None:
    """From now on this process draws charts without a check."""
    schemapi.disable_debug_mode()
