"""The parts of the System page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import pandas as pd
import streamlit as st

from dashboard import charts, page, system_more
from dashboard.drawing import show_chart
from dashboard.reader import Status, percentile_ms

_EVERY_S: Final = 3
#: Posts that wait while no offset is committed for this long have no worker.
_SILENT_S: Final = 30.0
_HISTORY_S: Final = 1800
_DEAD_LETTERS: Final = 200
_MEBIBYTE: Final = 1024 * 1024


@st.fragment(run_every=_EVERY_S)
def components() -> None:
    """Projector, broker, workers and read model: one card each, a word and an icon on each."""
    now = page.now_ms()
    with page.reading() as reader:
        if reader is None:
            return
        status, counters = reader.status(), reader.counters()
        posts, size = reader.size()
        backlog = reader.backlog()
    cards = [
        column.container(border=True, height="stretch", gap="xsmall")
        for column in st.columns(4, gap="small")
    ]
    with cards[0]:
        _projector(status.get("projector"), now)
    with cards[1]:
        _broker(status.get("broker"), now)
    with cards[2]:
        _workers(status.get("workers"), backlog, now)
    with cards[3]:
        st.markdown("**:material/database: Read model**")
        st.badge(f"{posts:,} posts", icon=":material/check_circle:", color="green")
        st.caption(f"{size / _MEBIBYTE:,.1f} MiB on disk")
        unread = counters.get("unreadable_labels", 0)
        read = f"{counters.get('labels', 0):,} labels read"
        st.caption(f"{read}, {unread:,} unreadable" if unread else read)


def _projector(projector: Status | None, now: int) -> None:
    st.markdown("**:material/sync_alt: Projector**")
    page.live_badge({} if projector is None else {"projector": projector}, now)
    if projector is None:
        st.caption("`tidegate dashboard` starts it")
        return
    rate = projector.detail.get("records_per_s")
    behind = projector.detail.get("behind")
    if rate is not None:
        st.caption(f"{rate:,.0f} records/s, {behind or 0:,} behind")
    st.caption(f"last heard of {page.span(projector.age_s(now))} ago")


def _broker(broker: Status | None, now: int) -> None:
    st.markdown("**:material/hub: Broker**")
    if broker is None:
        st.badge("not seen yet", icon=":material/hourglass_empty:", color="gray")
        return
    known: dict[str, tuple[str, str, Literal["green", "orange"]]] = {
        "ready": ("ready", ":material/check_circle:", "green"),
        "away": ("away", ":material/cloud_off:", "orange"),
        "no-topics": ("no topics of ours", ":material/topic:", "orange"),
    }
    word, icon, colour = known[broker.state]
    st.badge(word, icon=icon, color=colour)
    brokers = broker.detail.get("brokers") or [broker.detail.get("kafka", "")]
    st.caption(f"`{', '.join(str(address) for address in brokers)}`")
    if broker.state == "away":
        st.caption(f"`{broker.detail.get('error')}`")
    st.caption(f"asked {page.span(broker.age_s(now))} ago")


def _workers(workers: Status | None, backlog: Sequence[Mapping[str, Any]], now: int) -> None:
    """Not every broker tells who is in a group, so what counts is whether the work goes on."""
    st.markdown("**:material/memory: Workers**")
    if workers is None or all(row["committed"] is None for row in backlog):
        st.badge("none has worked yet", icon=":material/hourglass_empty:", color="gray")
        st.caption(f"`{page.WORKER_COMMAND}` starts one")
        return
    waiting = sum(row["waiting"] for row in backlog)
    members = workers.detail.get("members")
    silent_s = max(now - int(workers.detail.get("progress_ms") or now), 0) / 1000
    if members == 0 or (waiting and silent_s > _SILENT_S):
        st.badge("no progress", icon=":material/warning:", color="orange")
        st.caption(f"{waiting:,} posts wait since {page.span(silent_s)}: `{page.WORKER_COMMAND}`")
        return
    st.badge("working" if waiting else "idle", icon=":material/check_circle:", color="green")
    who = {None: "", 1: "1 worker, "}.get(members, f"{members} workers, ")
    st.caption(f"{who}{waiting:,} {'post' if waiting == 1 else 'posts'} waiting")
    st.caption(f"group `{workers.detail.get('group')}`")


@st.fragment(run_every=_EVERY_S)
def backlog() -> None:
    """Posts that wait, over time and by partition."""
    now = page.now_ms()
    with page.reading() as reader:
        if reader is None:
            return
        history = reader.backlog_history(now // 1000 - _HISTORY_S)
        partitions = reader.backlog()
    with st.container(border=True, gap="small"):
        st.markdown("**:material/inbox: Backlog, last 30 minutes**")
        if not partitions:
            st.caption("The broker has not told where the partitions of `posts` end.")
            return
        show_chart(
            charts.backlog_chart(history, dark=page.dark()),
            alt="Posts waiting for a worker over the last 30 minutes, UTC",
        )
        table = pd.DataFrame(
            {
                "Partition": [row["partition"] for row in partitions],
                "Waiting": [row["waiting"] for row in partitions],
                "Committed": [row["committed"] for row in partitions],
                "End": [row["end_offset"] for row in partitions],
            }
        )
        top = max(int(table["Waiting"].max()), 10)
        st.dataframe(
            table,
            hide_index=True,
            placeholder="–",
            alt="Backlog of each partition of the posts topic",
            column_config={
                "Waiting": st.column_config.ProgressColumn(
                    "Waiting", format="localized", min_value=0, max_value=top
                ),
                "Committed": st.column_config.NumberColumn(
                    format="localized", help="offset up to which the workers are done"
                ),
                "End": st.column_config.NumberColumn(
                    format="localized", help="offset of the next post on the topic"
                ),
            },
        )


@st.fragment(run_every=_EVERY_S)
def latency() -> None:
    """From posted to labelled, and how many a second."""
    now_s = page.now_ms() // 1000
    with page.reading() as reader:
        if reader is None:
            return
        histograms = reader.latency(now_s - _HISTORY_S, now_s + 1)
        minute = reader.labelled(now_s - 60, now_s, 1)
    points = [
        (start, percentile_ms(histogram, 0.5) or 0.0, percentile_ms(histogram, 0.95) or 0.0)
        for start, histogram in sorted(histograms.items())
    ]
    with st.container(border=True, gap="small"):
        st.markdown(
            "**:material/timer: Latency, posted to labelled, last 30 minutes** &nbsp;"
            " :small[:blue[━] half of the posts · :orange[╍] 95 of 100]"
        )
        if not points:
            st.caption("Nothing was labelled in the last 30 minutes.")
            return
        show_chart(
            charts.latency_chart(points, dark=page.dark()),
            alt="Median and 95th percentile of the latency in ms over the last 30 minutes, UTC",
        )
        recent = [point for point in points if point[0] > now_s - 70]
        rows = [
            ("Posts/s, last minute", f"{sum(n for _, n in minute) / 60:,.1f}"),
            ("Busiest second of it", f"{max((n for _, n in minute), default=0):,} posts"),
            ("p50, last minute", f"{max((p[1] for p in recent), default=0):,.0f} ms"),
            ("p95, last minute", f"{max((p[2] for p in recent), default=0):,.0f} ms"),
        ]
        st.dataframe(
            pd.DataFrame(rows, columns=["Figure", "Value"]),
            hide_index=True,
            placeholder="–",
            alt="Rates and latencies of the last minute",
        )


@st.fragment(run_every=_EVERY_S)
def dead_letters() -> None:
    """What could not be a post: why, where from, and the beginning of the original."""
    with page.reading() as reader:
        if reader is None:
            return
        reasons = reader.dead_letter_reasons()
        letters = reader.dead_letters(_DEAD_LETTERS)
    with st.container(border=True, gap="small"):
        total = sum(n for _, n in reasons)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**:material/mail_off: Dead letters**", width="content")
            if total:
                st.badge(f"{total:,} kept", icon=":material/drafts:", color="orange")
            else:
                st.badge("none", icon=":material/check_circle:", color="green")
        if not letters:
            st.caption("None: every record on `posts` could be read.")
            return
        st.text(" · ".join(f"{reason} {n:,}" for reason, n in reasons[:8]))
        event: Any = st.dataframe(
            pd.DataFrame([_letter(letter) for letter in letters]),
            hide_index=True,
            placeholder="–",
            key="dead-letters",
            on_select="rerun",
            selection_mode="single-row",
            height="content" if len(letters) < 8 else 290,
            alt="Dead letters, newest first",
            column_config={
                "At": st.column_config.DatetimeColumn(
                    "At (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width="small"
                ),
                "Size": st.column_config.NumberColumn(format="bytes", width="small"),
                "Why": st.column_config.TextColumn(width="large"),
            },
        )
        rows = event.selection.rows
        if rows and rows[0] < len(letters):
            letter = letters[rows[0]]
            st.code(
                letter["original"].decode("utf-8", "backslashreplace"),
                language=None,
                wrap_lines=True,
            )
            if letter["original_bytes"] > len(letter["original"]):
                st.caption(
                    f"The first {len(letter['original']):,} of {letter['original_bytes']:,} bytes;"
                    " `tidegate dead-letters show` has the rest."
                )
            system_more.replay_button(letter["dead_letter_id"])
        else:
            st.caption(
                "Select a row to see the original and to send it again;"
                " `tidegate dead-letters replay` sends many."
            )


def _letter(letter: Mapping[str, Any]) -> dict[str, Any]:
    origin = f"{letter['topic']}[{letter['partition']}]@{letter['offset']}"
    return {
        "At": pd.Timestamp(letter["at_ms"], unit="ms", tz="UTC"),
        "Reason": letter["reason"],
        "Why": letter["error"],
        "Where from": " · ".join(
            part for part in (letter["input"], origin if letter["topic"] else "") if part
        ),
        "Size": letter["original_bytes"],
    }


@st.fragment(run_every=10)
def models() -> None:
    """Which models labelled, in which versions, from when to when."""
    with page.reading() as reader:
        if reader is None:
            return
        rows = reader.models()
    with st.container(border=True, gap="small"):
        st.markdown("**:material/model_training: Models**")
        if not rows:
            st.caption("No label has named a model yet.")
            return
        st.dataframe(
            pd.DataFrame([line for row in rows for line in _model(row)]),
            hide_index=True,
            placeholder="–",
            alt="Models and versions that made the labels",
            column_config={
                "Last label": st.column_config.DatetimeColumn(
                    "Last label (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"
                ),
                "First label": st.column_config.DatetimeColumn(
                    "First label (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC"
                ),
                "Posts": st.column_config.NumberColumn(format="localized"),
            },
        )


def _model(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line a model, the tasks it answers together."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for task, model in json.loads(row["models"]).items():
        tasks.setdefault((model["id"], model["version"]), []).append(task)
    return [
        {
            "Model": model_id,
            "Version": version,
            "Tasks": ", ".join(names),
            "Posts": row["posts"],
            "First label": pd.Timestamp(row["first_ms"], unit="ms", tz="UTC"),
            "Last label": pd.Timestamp(row["last_ms"], unit="ms", tz="UTC"),
        }
        for (model_id, version), names in tasks.items()
    ]


@st.fragment(run_every=10)
def notices() -> None:
    """What happened to the topics and the read model."""
    with page.reading() as reader:
        if reader is None:
            return
        rows = reader.notices(20)
    with st.container(border=True, gap="small"):
        st.markdown("**:material/notifications: Notices**")
        if not rows:
            st.caption("Nothing to tell: no topic was made anew, no record expired unread.")
            return
        st.dataframe(
            pd.DataFrame(
                {
                    "At": [pd.Timestamp(row["at_ms"], unit="ms", tz="UTC") for row in rows],
                    "What": [row["message"] for row in rows],
                }
            ),
            hide_index=True,
            placeholder="–",
            alt="Notices, newest first",
            column_config={
                "At": st.column_config.DatetimeColumn(
                    "At (UTC)", format="MM-DD HH:mm:ss", timezone="UTC", width="small"
                ),
            },
        )
