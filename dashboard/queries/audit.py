"""The audit: every decision and every human action, as the chain holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from dashboard.audit_chain import Broken, Entry, first_broken
from dashboard.database import Database


class AuditView(NamedTuple):
    """One entry of the chain of its topic's partition; `detail` is JSON."""

    id: int
    topic: str
    partition: int
    offset: int
    at_ms: int
    who: str
    what: str
    on: str
    detail: str
    record_sha256: str
    hash: str


class Chain(NamedTuple):
    """One chain: how long it is, and where it begins.

    A `first_prev` that is not empty says that retention dropped the entries before.
    """

    topic: str
    partition: int
    entries: int
    first_offset: int
    next_offset: int
    first_prev: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are meant; an empty filter means all.

    `what` may end in `.` for a family: `decision.`, `review.`, `alert.`.
    """

    who: str = ""
    what: str = ""
    on: str = ""
    from_ms: int | None = None
    to_ms: int | None = None
    people_only: bool = False

    def where(self) -> tuple[str, list[object]]:
        """As SQL conditions, each led by AND, and their parameters."""
        sql, values = "", list[object]()
        if self.who:
            sql += " AND who = ?"
            values.append(self.who)
        if self.what.endswith("."):
            sql += " AND substr(what, 1, CAST(? AS INTEGER)) = ?"
            values += (len(self.what), self.what)
            # All but decisions is by people, who are few and have an index.
            if self.what != _DECISIONS and not self.people_only:
                sql += " AND by_person = 1"
        elif self.what:
            sql += " AND what = ?"
            values.append(self.what)
        if self.on:
            sql += " AND on_what = ?"
            values.append(self.on)
        if self.from_ms is not None:
            sql += " AND at_ms >= ?"
            values.append(self.from_ms)
        if self.to_ms is not None:
            sql += " AND at_ms < ?"
            values.append(self.to_ms)
        if self.people_only:
            sql += " AND by_person = 1"
        return sql, values


_DECISIONS: Final = "decision."
_TOLD_EVERY: Final = 1000
#: Every entry.
ALL: Final = AuditFilter()
_COLUMNS: Final = (
    'id, topic, partition, "offset", at_ms, who, what, on_what, detail, record_sha256, hash'
)


def audit_entries(
    db: Database,
    wanted: AuditFilter = ALL,
    limit: int = 200,
    before_id: int | None = None,
) -> list[AuditView]:
    """The newest entries that pass; `before_id` pages on."""
    sql, values = wanted.where()
    if before_id is not None:
        sql += " AND id < ?"
        values.append(before_id)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE 1 = 1{sql} ORDER BY id DESC LIMIT ?",  # noqa: S608  placeholders only
        [*values, limit],
    )
    return [AuditView(*row) for row in rows]


def export_entries(db: Database, wanted: AuditFilter = ALL) -> Iterator[AuditView]:
    """Every entry that passes, chain by chain, the oldest first."""
    sql, values = wanted.where()
    rows = db.each(
        f"SELECT {_COLUMNS} FROM audit WHERE 1 = 1{sql}"  # noqa: S608  placeholders only
        ' ORDER BY topic, partition, "offset"',
        values,
    )
    return (AuditView(*row) for row in rows)


def chains(db: Database) -> list[Chain]:
    """Every chain."""
    rows = db.execute(
        "SELECT topic, partition, entries, first_offset, next_offset, first_prev, hash"
        " FROM audit_heads ORDER BY topic, partition"
    )
    return [Chain(*row) for row in rows]


def first_broken_chain(db: Database) -> Broken | None:
    """The first entry of any chain that is not what it was; None: every chain is whole."""
    for chain in chains(db):
        broken = verify_chain(db, chain)
        if broken is not None:
            return broken
    return None


def verify_chain(
    db: Database, chain: Chain, told: Callable[[int], None] = lambda _n: None
) -> Broken | None:
    """The first entry of one chain that does not fit, or None; `told` how many were looked at."""
    rows = db.each(
        'SELECT partition, "offset", at_ms, who, what, on_what, detail, by_person, record_sha256,'
        ' hash FROM audit WHERE topic = ? AND partition = ? ORDER BY "offset"',
        (chain.topic, chain.partition),
    )

    def held() -> Iterator[tuple[Entry, str]]:
        for n, row in enumerate(rows, start=1):
            if n % _TOLD_EVERY == 0:
                told(n)
            yield Entry._make(row[:-1]), row[-1]

    head = (chain.next_offset, chain.hash, chain.entries)
    broken = first_broken(chain.topic, chain.first_prev, head, held())
    if broken is None or broken.partition >= 0:
        return broken
    return broken._replace(partition=chain.partition, offset=chain.first_offset)
