"""The workers' roles on the System page: lag by partition, processes, and how the models run.

Invariant: nothing is guessed. What a process is and does it has said itself on `workers`, and what
waits for a role is the end of its topics less what its group has committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
import streamlit as st

from dashboard import page
from dashboard.reader import Status
from dashboard.worker_beats import SILENT_S, RoleLag, beats_of, lags_of
from stream.outcomes import WorkerBeat
from stream.topics import POSTS

_EVERY_S: Final = 3
_Beats = Sequence[tuple[WorkerBeat, Status]]


@st.fragment(run_every=_EVERY_S)
def roles() -> None:
    """One line a role, and one a partition that it reads."""
    now = page.now_ms()
    with page.reading() as reader:
        if reader is None:
            return
        status, backlog = reader.status(), reader.backlog()
    beats = beats_of(status)
    lags = lags_of(status)
    posts = POSTS.full_name(page.settings().kafka.topic_prefix)
    labelling = [
        RoleLag(
            role="label",
            topic=posts,
            partition=row["partition"],
            committed=row["committed"],
            end=row["end_offset"],
            waiting=row["waiting"],
        )
        for row in backlog
        if row["committed"] is not None
    ]
    lags = [*labelling, *lags]
    with st.container(border=True, gap="small"):
        st.markdown("**:material/account_tree: Roles**")
        if not beats and not lags:
            st.caption(f"No worker has been heard of: `{page.WORKER_COMMAND}` starts one.")
            return
        left, right = st.columns([1.25, 1], gap="small")
        with left:
            _table(role_rows(beats, lags, now))
        with right:
            _partitions(lags)


def role_rows(beats: _Beats, lags: Sequence[RoleLag], now_ms: int) -> list[dict[str, Any]]:
    """A row for every role that was heard of or has a lag."""
    names = list(dict.fromkeys([*(b.role for b, _ in beats), *(lag.role for lag in lags)]))
    rows = []
    for name in names:
        own = [(beat, heard) for beat, heard in beats if beat.role == name]
        alive = [beat for beat, heard in own if heard.age_s(now_ms) <= SILENT_S]
        known = [lag.waiting for lag in lags if lag.role == name and lag.waiting is not None]
        waiting = sum(known) if known else None
        rows.append(
            {
                "Role": name,
                "State": _state(own, alive, waiting),
                "Waiting": waiting,
                "Records/s": round(sum(beat.records_per_s for beat in alive), 1) if own else None,
                "Processes": len(alive) if own else None,
                "Heard": _heard(own, now_ms),
                "Version": ", ".join(sorted({beat.version for beat in alive})) or None,
            }
        )
    return rows


def _state(own: _Beats, alive: Sequence[WorkerBeat], waiting: int | None) -> str:
    if alive:
        return "✓ working" if waiting else "✓ idle"
    return "▲ silent" if own else "– not heard of"


def _heard(own: _Beats, now_ms: int) -> str | None:
    return f"{page.span(min(heard.age_s(now_ms) for _, heard in own))} ago" if own else None


def _table(rows: list[dict[str, Any]]) -> None:
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="–",
        alt="Each role of the workers: state, records that wait, records a second, processes",
        column_config={
            "Waiting": st.column_config.NumberColumn(
                format="localized", help="records on its topics that it has not committed"
            ),
            "Records/s": st.column_config.NumberColumn(format="localized"),
            "Processes": st.column_config.NumberColumn(
                help=f"that were heard of in the last {SILENT_S:.0f} s"
            ),
        },
    )
    if any(row["State"].startswith("–") for row in rows):
        st.caption(
            "A role that is not heard of has committed before; an older worker, or a broker without"
            " the topic `workers` (`tidegate topics create`), says nothing of itself."
        )


def _partitions(lags: Sequence[RoleLag]) -> None:
    if not lags:
        st.caption("No role has committed an offset yet.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Role": [lag.role for lag in lags],
                "Partition": [f"{lag.topic}[{lag.partition}]" for lag in lags],
                "Waiting": [lag.waiting for lag in lags],
                "Committed": [lag.committed for lag in lags],
                "End": [lag.end for lag in lags],
            }
        ),
        hide_index=True,
        placeholder="–",
        height="content" if len(lags) < 8 else 290,
        alt="Lag of every role by the partitions that it reads",
        column_config={
            "Waiting": st.column_config.ProgressColumn(
                format="localized",
                min_value=0,
                max_value=max(10, *(lag.waiting or 0 for lag in lags)),
            ),
            "Committed": st.column_config.NumberColumn(
                format="localized", help="offset up to which the role is done"
            ),
            "End": st.column_config.NumberColumn(
                format="localized", help="offset of the next record on the topic"
            ),
        },
    )


@st.fragment(run_every=10)
def running_models() -> None:
    """On what the models run in every worker that was heard of, and what the start cost."""
    now = page.now_ms()
    with page.reading() as reader:
        if reader is None:
            return
        beats = beats_of(reader.status())
    alive = [beat for beat, heard in beats if heard.age_s(now) <= SILENT_S]
    rows = model_rows(alive)
    with st.container(border=True, gap="small"):
        st.markdown("**:material/developer_board: How the models run**")
        if not rows:
            st.caption("No worker that labels has been heard of in the last half minute.")
            return
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder="–",
            alt="Provider, device, fused operators and warm-up of each model by worker",
            column_config={
                "Warm-up (s)": st.column_config.NumberColumn(
                    format="%.2f", help="loading the graph and the first inferences"
                ),
                "Fused operators": st.column_config.TextColumn(
                    width="medium", help="how many of each the graph has, by its manifest"
                ),
            },
        )
        for remark in dict.fromkeys(m.remark for beat in alive for m in beat.models if m.remark):
            st.text(remark)


def model_rows(beats: Sequence[WorkerBeat]) -> list[dict[str, Any]]:
    """A row for each model and way of running; workers that run it alike are one."""
    workers: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for beat in beats:
        for model in beat.models:
            fused = ", ".join(f"{n} {name}" for name, n in sorted(model.fused.items()))
            like = (
                model.id, model.version, model.provider, model.device, model.precision,
                f"{model.sessions} × {model.threads}", fused or None, model.warm_up_s,
            )  # fmt: skip
            workers[like].append(f"{beat.host}/{beat.pid}")
    names = (
        "Model", "Version", "Provider", "Device", "Precision", "Sessions × threads",
        "Fused operators", "Warm-up (s)",
    )  # fmt: skip
    return [
        dict(zip(names, like, strict=True)) | {"Worker": ", ".join(who)}
        for like, who in workers.items()
    ]
