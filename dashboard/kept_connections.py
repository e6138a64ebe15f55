"""The pages' connections to PostgreSQL, kept for the next question.

A new one costs the server 12 ms of CPU, more than most questions do: a process of its own, in which
everything has to be looked up again. Invariant: a connection is in one pair of hands at a time, comes
back only with nothing under way on it, and is asked whether it still stands before it is lent again.
"""

from __future__ import annotations

import atexit
import threading
import time
from typing import Final, NamedTuple

import psycopg

from dashboard.postgres import PostgresDatabase, connect
from stream.database_url import PostgresUrl

#: So many wait at most; what is asked for beside them is opened and closed.
_MOST_IDLE: Final = 6
_IDLE_S: Final = 120.0


class _Idle(NamedTuple):
    since_s: float
    at: PostgresUrl
    read_only: bool
    db: PostgresDatabase


_idle: list[_Idle] = []
_lock = threading.Lock()


def lend(at: PostgresUrl, *, read_only: bool = False) -> PostgresDatabase:
    """A connection to the schema, as `dashboard.postgres.connect` makes it; its `close` keeps it.

    Raises:
        ReadModelError: the server does not let us in.
    """
    while (kept := _taken(at, read_only=read_only)) is not None:
        if _stands(kept):
            return kept
        _close(kept)
    # Nothing prepared: after a rebuild another schema has this one's name.
    db = connect(at, read_only=read_only, prepared=False)
    db.taker = lambda back: _keep(_Idle(time.monotonic(), at, read_only, back))
    return db


def _taken(at: PostgresUrl, *, read_only: bool) -> PostgresDatabase | None:
    with _lock:
        for n in reversed(range(len(_idle))):
            if (_idle[n].at, _idle[n].read_only) == (at, read_only):
                return _idle.pop(n).db
    return None


def _stands(db: PostgresDatabase) -> bool:
    try:
        db.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _keep(back: _Idle) -> None:
    now = time.monotonic()
    with _lock:
        held = [*_idle, back] if back.db.nothing_under_way() else [*_idle]
        fresh = [each for each in held if now - each.since_s <= _IDLE_S][-_MOST_IDLE:]
        gone = [each.db for each in (*_idle, back) if each not in fresh]
        _idle[:] = fresh
    _close(*gone)


def _close(*connections: PostgresDatabase) -> None:
    for db in connections:
        db.taker = None
        db.close()


def let_go() -> None:
    """Close all that wait."""
    with _lock:
        waiting = [each.db for each in _idle]
        _idle.clear()
    _close(*waiting)


atexit.register(let_go)
