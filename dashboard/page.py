"""What every page shares: the settings, a reader, the moment, and the honest word on staleness.

Invariant: a page that shows a read model nobody brings up to date says so in amber; a frozen
page must not look calm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal

import streamlit as st

from dashboard.errors import ReadModelError
from dashboard.reader import Reader, Status, open_reader
from stream.settings import Settings, load_settings

#: Every page looks this often how old what it shows is.
LOOK_S: Final = 2.0
#: A projector beats every second; one that has been silent for this long is not there. With the
#: next look, and a second for drawing it, the amber word stands within ten seconds.
STALE_S: Final = 7.0
_NAMES_S: Final = 60.0

FEED_COMMAND: Final = "tidegate replay FILE"
WORKER_COMMAND: Final = "tidegate worker"


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def utc(ms: int) -> str:
    """A time of day, with the day where that is not today."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    today = datetime.now(UTC).date()
    return f"{at:%H:%M:%S} UTC" if at.date() == today else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """A length of time in the unit a person would use."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


@st.cache_resource
def settings() -> Settings:
    """The settings this process was started with."""
    return load_settings()


# Not `st.cache_data`: it would keep an empty answer for a minute, too, and a young stream waits.
@st.cache_resource
def _names_held() -> dict[tuple[str, str], tuple[float, list[str]]]:
    return {}


def names(kind: Literal["sources", "languages"]) -> list[str]:
    """Every source or language seen, the busiest first; up to a minute old, for to count them reads all counts."""
    held, key = _names_held(), (str(settings().dashboard.database), kind)
    at, found = held.get(key, (0.0, []))
    if not found or time.monotonic() - at > _NAMES_S:
        with reading() as reader:
            if reader is not None:
                found = reader.sources() if kind == "sources" else reader.languages()
        held[key] = (time.monotonic(), found)
    return found


@contextmanager
def reading() -> Iterator[Reader | None]:
    """A reader for one run; what is wrong with the file is said on the page."""
    entered = False
    try:
        with open_reader(settings().dashboard.database, kept=True) as reader:
            entered = True
            yield reader
    except ReadModelError as error:
        st.error(
            error.hint or "",
            title=f"{error.message[:1].upper()}{error.message[1:]}",
            icon=":material/database_off:",
        )
        if entered:
            st.stop()  # what was to be drawn has no answer to draw
        yield None


def stale_banner(status: dict[str, Status], at_ms: int) -> None:
    """Amber, and why, when the read model is not being brought up to date."""
    projector = status.get("projector")
    if projector is None:
        return
    if projector.state == "stopped":
        st.warning(
            f"What you see is from {utc(projector.at_ms)}. Start it again with `tidegate dashboard`.",
            title="The projector has been stopped: this page is frozen",
            icon=":material/pause_circle:",
        )
    elif projector.age_s(at_ms) > STALE_S:
        st.warning(
            f"The read model was last brought up to date {span(projector.age_s(at_ms))} ago, at"
            f" {utc(projector.at_ms)}. The projector does not answer; what you see is old.",
            title="This page is frozen",
            icon=":material/warning:",
        )
    elif projector.state == "broker-away":
        st.warning(
            f"No answer from the broker at `{projector.detail.get('kafka')}`. The projector keeps"
            " trying; nothing is lost, and the page goes on from where it stopped.",
            title="The broker is away: no new labels arrive",
            icon=":material/cloud_off:",
        )
    elif projector.state == "waiting-for-topics":
        st.warning(
            "Create them with `tidegate topics create`.",
            title="The broker has no topics of ours yet",
            icon=":material/topic:",
        )


def live_badge(status: dict[str, Status], at_ms: int) -> None:
    """One word on how fresh the page is."""
    projector = status.get("projector")
    if projector is None:
        st.badge("no projector yet", icon=":material/hourglass_empty:", color="gray")
    elif projector.state == "stopped" or projector.age_s(at_ms) > STALE_S:
        st.badge(f"frozen since {utc(projector.at_ms)}", icon=":material/warning:", color="orange")
    elif projector.state == "starting":
        st.badge("starting", icon=":material/hourglass_empty:", color="gray")
    elif projector.state != "reading":
        st.badge(projector.state.replace("-", " "), icon=":material/warning:", color="orange")
    else:
        behind = projector.detail.get("behind") or 0
        word = f"live, {behind:,} records behind" if behind > 2000 else "live"
        st.badge(word, icon=":material/check_circle:", color="green")
