"""The rest of the System page: hooks' delivery log, replay of a dead letter, the configuration."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from dashboard import acting, page
from dashboard.actions import note_event
from dashboard.people import Person, Role, needs
from dashboard.queries.deliveries import deliveries, target_figures
from stream.errors import DeliveryError
from stream.kafka.admin import open_admin
from stream.kafka.dead_letters import ReplayCount, read_letters, replay_letters
from stream.settings import KafkaSettings, settings_in_force

_EVERY_S: Final = 3
_DAY_MS: Final = 86_400_000
_SHOWN: Final = 200
_WORDS: Final = {
    "delivered": "✓ delivered",
    "retrying": "↻ retrying",
    "failed": "✕ failed",
    "dropped": "✕ dropped",
}
_DONE: Final = "dead_letter_replayed"


@st.fragment(run_every=_EVERY_S)
def hooks() -> None:
    """What became of what was handed to targets, and every attempt."""
    now = page.now_ms()
    with page.reading() as reader:
        if reader is None:
            return
        targets = target_figures(reader.db, now - _DAY_MS, now + 1)
        log = deliveries(reader.db, limit=_SHOWN)
    with st.container(border=True, gap="small"):
        st.markdown("**:material/webhook: Hooks, last 24 hours**")
        if not log:
            st.caption("Nothing was handed to a target yet: `tidegate hooks` sends.")
            return
        for target in targets:
            lost = target.failed + target.dropped
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.text(target.target, width="content")
                st.badge(
                    f"{target.delivered:,} delivered", icon=":material/check_circle:", color="green"
                )
                if target.retrying:
                    st.badge(f"{target.retrying:,} retried", icon=":material/sync:", color="gray")
                if lost:
                    st.badge(f"{lost:,} given up", icon=":material/error:", color="orange")
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "At": pd.Timestamp(row.at_ms, unit="ms", tz="UTC"),
                        "Target": row.target,
                        "State": _WORDS.get(row.state, row.state),
                        "Attempt": row.attempt,
                        "Status": row.status,
                        "ms": row.elapsed_ms,
                        "What": row.kind,
                        "Post": row.post_id,
                        "Error": row.error,
                    }
                    for row in log
                ]
            ),
            hide_index=True,
            placeholder="–",
            height="content" if len(log) < 8 else 290,
            alt="Deliveries, newest first",
            column_config={
                "At": st.column_config.DatetimeColumn(
                    "At (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width="small"
                ),
                "ms": st.column_config.NumberColumn("Took (ms)", format="localized"),
            },
        )


def replay_button(dead_letter_id: str) -> None:
    """Send the selected dead letter back; for those who may."""
    person = acting.person()
    if person is None or not person.may(Role.MODERATOR):
        return
    st.button(
        "Replay it",
        icon=":material/replay:",
        key="replay-dead-letter",
        on_click=_replay,
        args=(dead_letter_id,),
        help="Sends the original back to the topic and partition it came from, once more.",
    )
    acting.show_failure()
    if st.session_state.get(_DONE) == dead_letter_id:
        st.success("The broker has it again.", icon=":material/check_circle:")


def _replay(dead_letter_id: str) -> None:
    person = acting.person()
    if person is None:
        return
    with acting.attempt("Replay the dead letter"):
        replay(person, page.settings().kafka, dead_letter_id)
        st.session_state[_DONE] = dead_letter_id
        note_event(person, acting.writer(), "dead-letter.replay", dead_letter_id, page.now_ms())


@needs(Role.MODERATOR)
def replay(person: Person, kafka: KafkaSettings, dead_letter_id: str) -> None:
    """Send one dead letter's original back to where it came from; returns when it is confirmed.

    Raises:
        NotAllowedError: the role is not enough.
        DeliveryError: it is not on the topic any more, cannot be sent, or was not confirmed.
        BrokerError: the broker does not answer.
    """
    assert person.name
    with open_admin(kafka) as admin:
        partitions = {name: topic.partitions for name, topic in admin.layout().items()}
    count = ReplayCount()
    letters = [
        stored.letter
        for stored in read_letters(kafka, lambda letter: letter.dead_letter_id == dead_letter_id)
    ]
    replay_letters(kafka, letters, partitions, count)
    if not count.replayed:
        why = ", ".join(kept.value for kept in count.kept) or "it is not on the topic any more"
        raise DeliveryError(f"the dead letter was not sent: {why}")


def configuration() -> None:
    """Every setting, its value, and where that came from; secrets are masked."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown("**:material/settings: Configuration**", width="content")
            changed = st.toggle(
                "Only what differs from the default", key="changed", value=True, bind="query-params"
            )
        rows = [row for row in settings_in_force() if not changed or row.origin != "default"]
        if not rows:
            st.caption("Everything is as by default.")
            return
        st.dataframe(
            pd.DataFrame(
                {
                    "Setting": [row.name for row in rows],
                    "Value": ["–" if row.value is None else str(row.value) for row in rows],
                    "From": [row.origin for row in rows],
                    "Meaning": [row.description for row in rows],
                }
            ),
            hide_index=True,
            placeholder="–",
            height="content" if len(rows) < 12 else 400,
            alt="Settings with their values and sources, secrets masked",
        )
