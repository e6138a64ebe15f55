"""The read model made anew from the topics, beside the one in use, and swapped in when caught up.

Invariant: until the swap (`dashboard.swap`) the old one is not touched; killed at any moment, there
is a whole read model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from dashboard.errors import ReadModelError
from dashboard.outcome_store import AUDITED, chain_name
from dashboard.projector import Projector
from dashboard.rollup import total_scores
from dashboard.schema import WIDER
from dashboard.store import Store
from dashboard.swap import both, place_beside, remove, swap
from stream.database_url import ReadModelAt
from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.offsets import offset_ranges
from stream.settings import Settings

Progress = Callable[[int, int | None], None]
_SILENCE_S: Final = 60.0
#: Tables with a `start_s`, and which of their rows; what is older than the topics hold is taken
#: over from the old one. Wider rollups are counted from these.
_CARRIED: Final = {
    "rollups": "width_s = 300",
    "rule_rollups": "",
    "action_rollups": "",
    "metrics": "width_s = 3600",
}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did; `carried` audit entries are older than the topics' retention."""

    records: int
    carried: int
    elapsed_s: float


def rebuild(settings: Settings, progress: Progress, stop: threading.Event) -> Rebuilt | None:
    """Read every topic into a new read model and put it in the old one's place.

    Args:
        settings: the broker, and where the read model is.
        progress: told how many records are read, and how many are not yet (None: not known).
        stop: ends it, and leaves the old one as it was.

    Returns:
        What was done; None: it was stopped.

    Raises:
        BrokerError: the broker does not answer.
        ReadModelError: it cannot be written, or a projector does not let go of the old one.
    """
    own = settings.dashboard
    at, began = own.database, time.monotonic()
    fresh = place_beside(at)
    remove(fresh)
    try:
        with Store(
            fresh,
            retention_posts=own.retention_posts,
            retention_days=own.retention_days,
            retention_audit=own.retention_audit,
        ) as store:
            carried = _carry_audit(settings, at, fresh)
            records = _read_all(Projector(settings, store), progress, stop)
            if records is None:
                return None
        _carry_rollups(at, fresh)
        swap(fresh, at)
    finally:
        with suppress(ReadModelError):  # what went wrong before counts; the next rebuild clears up
            remove(fresh)
    return Rebuilt(records, carried, time.monotonic() - began)


def _read_all(projector: Projector, progress: Progress, stop: threading.Event) -> int | None:
    """Read until nothing is left; the number of records, None where it was stopped."""
    done = threading.Event()
    last_at, last, read_now = time.monotonic(), -1, 0

    def told(read: int, behind: int | None) -> None:
        nonlocal last_at, last, read_now
        read_now = read
        progress(read, behind)
        if read != last:
            last_at, last = time.monotonic(), read
        if behind == 0 or stop.is_set() or time.monotonic() - last_at > _SILENCE_S:
            done.set()

    projector.progress = told
    projector.run(done)
    if stop.is_set():
        return None
    if time.monotonic() - last_at > _SILENCE_S:
        raise BrokerError(
            f"the broker gave nothing for {_SILENCE_S:.0f} s",
            hint="the old read model is as it was; `tidegate doctor` looks at the broker",
        )
    return read_now


def _carry_audit(settings: Settings, old: ReadModelAt, fresh: ReadModelAt) -> int:
    """Take over the entries that the topics do not hold any more; chains go on after them."""
    with both(old, fresh) as db:
        if db is None:
            return 0
        prefix = settings.kafka.topic_prefix
        heads = db.execute("SELECT topic, partition FROM old.audit_heads").fetchall()
        generations = (
            "INSERT INTO counters SELECT * FROM old.counters WHERE name LIKE 'generation:%'"
        )
        carried = 0
        with db.exclusively():
            db.execute(generations)
            names = {chain_name(db, topic): topic for topic in AUDITED}
            current = [(f"{prefix}{names[topic]}", p) for topic, p in heads if topic in names]
            with open_admin(settings.kafka) as admin:
                there = set(admin.names())
            first = offset_ranges(settings.kafka, [place for place in current if place[0] in there])
            for topic, partition in heads:
                place = (f"{prefix}{names.get(topic, '')}", partition)
                before = first[place].first if place in first else 2**62
                carried += db.execute(
                    'INSERT INTO audit (topic, partition, "offset", at_ms, who, what, on_what, detail,'
                    ' by_person, record_sha256, hash) SELECT topic, partition, "offset", at_ms, who,'
                    " what, on_what, detail, by_person, record_sha256, hash FROM old.audit"
                    ' WHERE topic = ? AND partition = ? AND "offset" < ? ORDER BY "offset"',
                    (topic, partition, before),
                ).rowcount
                db.execute(
                    'INSERT INTO audit_heads SELECT a.topic, a.partition, a."offset" + 1, a.hash,'
                    " (SELECT count(*) FROM audit AS n WHERE n.topic = a.topic"
                    " AND n.partition = a.partition), h.first_offset, h.first_prev"
                    " FROM audit AS a JOIN old.audit_heads AS h"
                    " ON h.topic = a.topic AND h.partition = a.partition"
                    ' WHERE a.topic = ? AND a.partition = ? ORDER BY a."offset" DESC LIMIT 1',
                    (topic, partition),
                )
        return carried


def _carry_rollups(old: ReadModelAt, fresh: ReadModelAt) -> None:
    """Take over the counts of what the topics do not hold any more."""
    with both(old, fresh) as db:
        if db is None:
            return
        with db.exclusively():
            db.execute(
                "INSERT INTO models (models, posts, first_ms, last_ms)"
                " SELECT models, 0, first_ms, last_ms FROM old.models"
                " WHERE models NOT IN (SELECT models FROM models)"
            )
            for table, only in _CARRIED.items():
                where = f"WHERE {only}" if only else ""
                db.execute(
                    f"INSERT INTO {table} SELECT * FROM (SELECT * FROM old.{table} {where}) AS held"  # noqa: S608
                    f" WHERE start_s < coalesce((SELECT min(start_s) FROM {table} {where}), 9e15)"
                )
            # An hour of which the topics hold only the end would be counted in part.
            db.execute("DELETE FROM rollups WHERE width_s > 300")
            for script in WIDER:
                db.execute(script)
            db.execute(
                "INSERT INTO score_rollups SELECT s.width_s, s.label, s.start_s, n.id, s.language,"
                " s.counts FROM old.score_rollups AS s JOIN old.models AS o ON o.id = s.models"
                " JOIN models AS n ON n.models = o.models WHERE s.start_s + s.width_s <="
                " coalesce((SELECT min(start_s) FROM score_rollups), 9e15)"
            )
            total_scores(db)
