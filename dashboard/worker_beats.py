"""What workers' processes say of themselves, and how far each role is, as rows of `status`.

Invariant: a beat replaces an older one of its process and never a newer one. A process that has
not been heard of for an hour is forgotten: it ended, and nothing else would say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from dashboard.database import Database
from dashboard.projection import Place, UnreadableRecordError
from dashboard.reader import Status
from stream.outcomes import WorkerBeat, decode_worker_beat
from stream.records import MAX_ID_CHARS, encode
from stream.roles import NAMES, Duty, group_of
from stream.settings import Settings
from stream.times import timestamp_ms

#: Rows of `status` that are a process: this and its id.
PREFIX: Final = "worker:"
#: The row of `status` that says how far each role is.
LAG: Final = "role-lag"
FORGOTTEN_MS: Final = 3_600_000
#: After three beats (`stream.beats.BEAT_S`) without a word a process is taken for gone.
SILENT_S: Final = 30.0


class WorkerRow(NamedTuple):
    """One row of `status`, in the order of its columns."""

    component: str
    at_ms: int
    role: str
    detail: str


class RoleLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition that a role reads; before its first commit nobody knows what waits."""

    role: str
    topic: str
    partition: int
    committed: int | None
    end: int
    waiting: int | None


def worker_row(value: bytes | None, _: Place) -> WorkerRow:
    """The row of a record on `workers`.

    Raises:
        UnreadableRecordError: it is not what the topic promises.
    """
    try:
        beat = decode_worker_beat(value or b"")
        at_ms = timestamp_ms(beat.at)
        timestamp_ms(beat.started_at)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise UnreadableRecordError(str(exc)) from exc
    if not 0 < len(beat.worker_id) <= MAX_ID_CHARS:
        raise UnreadableRecordError("an id is empty or too long")
    return WorkerRow(f"{PREFIX}{beat.worker_id}", at_ms, beat.role[:120], encode(beat).decode())


def put_workers(db: Database, rows: Sequence[WorkerRow]) -> None:
    """Keep each process's newest beat."""
    if rows:
        db.executemany(
            "INSERT INTO status VALUES (?, ?, ?, ?) ON CONFLICT (component) DO UPDATE SET"
            " at_ms = excluded.at_ms, state = excluded.state, detail = excluded.detail"
            " WHERE excluded.at_ms > status.at_ms",
            rows,
        )


def forget_workers(db: Database, now_ms: int) -> None:
    """Drop the processes that have long been silent."""
    db.execute(
        "DELETE FROM status WHERE component LIKE ? AND at_ms < ?",
        (f"{PREFIX}%", now_ms - FORGOTTEN_MS),
    )


def beats_of(status: Mapping[str, Status]) -> list[tuple[WorkerBeat, Status]]:
    """Every process heard of, by role and then by process; what cannot be read is left out."""
    found = []
    for name, row in status.items():
        if name.startswith(PREFIX):
            try:
                found.append((msgspec.convert(row.detail, WorkerBeat), row))
            except msgspec.ValidationError:  # of a newer projector
                continue
    return sorted(found, key=lambda each: (_order(each[0].role), each[0].worker_id))


def role_of(group: str, settings: Settings) -> str | None:
    """The role whose consumer group this is: `decide`, `hooks/slack`; None: not one of ours.

    Labelling is left out: its lag is the backlog, which has a place of its own.
    """
    for name in NAMES:
        if name not in ("label", "hooks") and group == group_of(settings, Duty(name)):
            return name
    hooks = group_of(settings, Duty("hooks", "?")).removesuffix("?")
    return f"hooks/{group.removeprefix(hooks)}" if group.startswith(hooks) else None


def lag_detail(lags: Sequence[RoleLag]) -> dict[str, Any]:
    """What the row of `LAG` holds."""
    return {"partitions": [msgspec.to_builtins(lag) for lag in lags]}


def lags_of(status: Mapping[str, Status]) -> list[RoleLag]:
    """How far each role is, by role, topic and partition."""
    row = status.get(LAG)
    if row is None:
        return []
    found = msgspec.convert(row.detail.get("partitions", []), list[RoleLag])
    return sorted(found, key=lambda each: (_order(each.role), each.topic, each.partition))


def _order(role: str) -> tuple[int, str]:
    name = role.partition("/")[0]
    return (NAMES.index(name) if name in NAMES else len(NAMES), role)
