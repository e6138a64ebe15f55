"""Alerts: episodes firing and past, and what people did about them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dashboard.database import Database
from stream.outcomes import Alert, AlertExample, decode_alert

_NAMES_A_QUERY: Final = 500  # well under SQLite's bound on parameters
_EPISODES: Final = (
    "SELECT alerts.record, started_ms, alerts.at_ms, resolved_ms, alert_id, rule, f.record"
    " FROM alerts LEFT JOIN alert_firings AS f USING (alert_id)"
)


class AlertView(NamedTuple):
    """An episode as its newest record says, and who took note of it.

    `acknowledged_by` is a pseudonym. `muted_until_ms`: the rule's alerts are muted until then.
    `thumbs` is people's ratings, up less down. `fired` is what the newest record said while it
    went on; None: it was never heard of before it was over.
    """

    alert: Alert
    fired: Alert | None
    started_ms: int
    at_ms: int
    resolved_ms: int | None
    acknowledged_by: str | None
    acknowledged_ms: int | None
    muted_until_ms: int | None
    thumbs: int

    @property
    def firing(self) -> bool:
        """Whether the episode goes on."""
        return self.alert.state == "firing"

    @property
    def examples(self) -> list[AlertExample]:
        """Posts that show what it is about; the record of its end has none."""
        return self.alert.examples or (self.fired.examples if self.fired else [])


def alerts(
    db: Database,
    now_ms: int,
    *,
    firing: bool | None = None,
    from_ms: int = 0,
    to_ms: int | None = None,
    limit: int = 200,
) -> list[AlertView]:
    """Episodes that began in the range, firing ones first, then the most severe, then the newest.

    Args:
        db: the read model.
        now_ms: decides which mutes are in force.
        firing: only those that go on, or only those that are over; None: both.
        from_ms: episodes that began earlier are left out, unless they go on.
        to_ms: episodes that began at or after this are left out.
        limit: at most so many.
    """
    sql, values = "", list[object]()
    if firing is not None:
        sql += " AND state = ?"
        values.append("firing" if firing else "resolved")
    if to_ms is not None:
        sql += " AND started_ms < ?"
        values.append(to_ms)
    rows = db.execute(
        f"{_EPISODES} WHERE (started_ms >= ? OR state = 'firing'){sql} ORDER BY"
        " CASE state WHEN 'firing' THEN 0 ELSE 1 END,"
        " CASE state WHEN 'firing' THEN -severity ELSE 0 END, started_ms DESC, alert_id LIMIT ?",
        [from_ms, *values, limit],
    ).fetchall()
    return _with_events(db, rows, now_ms)


def alert_of(db: Database, alert_id: str, now_ms: int) -> AlertView | None:
    """One episode; None: never heard of."""
    rows = db.execute(f"{_EPISODES} WHERE alert_id = ?", (alert_id,)).fetchall()
    return next(iter(_with_events(db, rows, now_ms)), None)


def mutes(db: Database, now_ms: int) -> dict[str, int]:
    """The alert rules that are muted, and until when."""
    found: dict[str, int] = {}
    for rule, detail in db.execute(
        "SELECT on_what, detail FROM events WHERE what IN ('alert.mute', 'alert.unmute')"
        " ORDER BY at_ms, event_id"
    ):
        found[rule] = int(json.loads(detail).get("until_ms", 0))
    return {rule: until for rule, until in found.items() if until > now_ms}


#: What people did about an alert or its rule: what, who, when, and the details.
_Event = tuple[str, str, int, str]
#: A row of `_EPISODES`.
_Episode = tuple[bytes, int, int, int | None, str, str, bytes | None]


def _with_events(db: Database, rows: Sequence[_Episode], now_ms: int) -> list[AlertView]:
    """Episodes with what people did about them, which is asked for once for all."""
    said: dict[str, list[_Event]] = {}
    names = sorted({name for row in rows for name in row[4:6]})
    for start in range(0, len(names), _NAMES_A_QUERY):
        some = names[start : start + _NAMES_A_QUERY]
        for what, on, *event in db.execute(
            "SELECT what, on_what, who, at_ms, detail FROM events WHERE what IN"  # noqa: S608  placeholders only
            " ('alert.mute', 'alert.unmute', 'alert.acknowledge', 'alert.thumbs')"
            f" AND on_what IN ({', '.join('?' * len(some))}) ORDER BY at_ms, event_id",
            some,
        ):
            said.setdefault(on, []).append((what, *event))
    return [_view(row, said.get(row[4], ()), said.get(row[5], ()), now_ms) for row in rows]


def _view(
    row: _Episode,
    about_it: Iterable[_Event],
    about_its_rule: Iterable[_Event],
    now_ms: int,
) -> AlertView:
    record, started_ms, at_ms, resolved_ms, _, _, fired = row
    by, at, until, thumbs = None, None, None, {}
    for what, who, event_ms, detail in about_it:
        if what == "alert.acknowledge":
            by, at = (by, at) if by else (who, event_ms)
        elif what == "alert.thumbs":
            thumbs[who] = 1 if json.loads(detail).get("up") else -1
    for what, _, _, detail in about_its_rule:
        if what in ("alert.mute", "alert.unmute"):
            until = int(json.loads(detail).get("until_ms", 0))
    muted = until if until is not None and until > now_ms else None
    return AlertView(
        decode_alert(record),
        None if fired is None else decode_alert(fired),
        started_ms,
        at_ms,
        resolved_ms,
        by,
        at,
        muted,
        sum(thumbs.values()),
    )
