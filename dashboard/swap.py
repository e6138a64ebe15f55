"""A second read model beside the one in use, and how it takes its place: files, or schemas.

Invariant: the swap is one rename (of a file, or of a schema in one transaction) while no projector
has either open, so that there is a whole read model at any moment.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from dashboard.database import Database, database_errors, driver, open_sqlite, reason_of
from dashboard.errors import ReadModelError
from dashboard.ownership import hand_over, locked
from dashboard.schema import TAKEN_OVER_SINCE, VERSION
from stream.database_url import PostgresUrl, ReadModelAt

_SWAP_TIMEOUT_S: Final = 60.0


def place_beside(at: ReadModelAt) -> ReadModelAt:
    """Where the new read model is made."""
    if isinstance(at, PostgresUrl):
        return at.with_schema(f"{at.schema}_rebuild")
    return at.with_name(f"{at.name}.rebuild")


def remove(at: ReadModelAt) -> None:
    """Remove what a rebuild left, or had no use for any more."""
    if not isinstance(at, PostgresUrl):
        for suffix in ("", "-wal", "-shm", "-journal", ".lock"):
            with contextlib.suppress(OSError):
                at.with_name(f"{at.name}{suffix}").unlink(missing_ok=True)
        return
    with explained(at), closing(driver().connect(at)) as db:
        # Neither another rebuild's nor other people's tables are ours to drop.
        driver().take_writer_lock(db, at)
        db.version()
        db.execute(f'DROP SCHEMA IF EXISTS "{at.schema}" CASCADE')


@contextmanager
def both(old: ReadModelAt, fresh: ReadModelAt) -> Iterator[Database | None]:
    """The new read model with the old one's tables as `old.`; None: there is nothing to take over."""
    if isinstance(old, PostgresUrl):
        assert isinstance(fresh, PostgresUrl)
        with closing(driver().connect(old, read_only=True)) as there:
            usable = TAKEN_OVER_SINCE <= there.version() <= VERSION
        if not usable:
            yield None
            return
        with explained(fresh), closing(driver().connect(fresh, old=old.schema)) as together:
            yield together
        return
    assert isinstance(fresh, Path)
    if not old.is_file():
        yield None
        return
    try:
        with closing(open_sqlite(old, read_only=True)) as file:
            usable = TAKEN_OVER_SINCE <= file.version() <= VERSION
    except sqlite3.DatabaseError:
        usable = False  # what is broken is the reason for many a rebuild
    if not usable:
        yield None
        return
    with explained(fresh), closing(open_sqlite(fresh)) as db:
        db.execute("ATTACH ? AS old", (f"{old.resolve().as_uri()}?mode=ro",))
        yield db


def swap(fresh: ReadModelAt, at: ReadModelAt) -> None:
    """Put the new one in the old one's place; a projector that has the old one lets go of it.

    Raises:
        ReadModelError: it does not let go.
    """
    with explained(at), hand_over(at):
        deadline = time.monotonic() + _SWAP_TIMEOUT_S
        if isinstance(at, PostgresUrl):
            assert isinstance(fresh, PostgresUrl)
            _swap_schemas(fresh, at, deadline)
        else:
            assert isinstance(fresh, Path)
            _swap_files(fresh, at, deadline)


@contextmanager
def explained(at: ReadModelAt) -> Iterator[None]:
    """What a database says goes wrong here, as a `ReadModelError`."""
    try:
        yield
    except database_errors() as exc:
        raise ReadModelError(
            f"the read model cannot be put in its place: {reason_of(exc)}",
            where=str(at),
            hint="the old one is as it was; try again",
        ) from exc


def _swap_schemas(fresh: PostgresUrl, at: PostgresUrl, deadline: float) -> None:
    postgres = driver()
    with closing(postgres.connect(at)) as db:
        postgres.take_writer_lock(db, at, deadline - time.monotonic())
        db.version()  # other people's tables are not ours to drop
        # A page that reads for long is waited for, and the others meanwhile wait for us: not long.
        db.execute("SET lock_timeout = '5s'")
        while True:
            try:
                with db.exclusively():
                    db.execute(f'DROP SCHEMA IF EXISTS "{at.schema}" CASCADE')
                    db.execute(f'ALTER SCHEMA "{fresh.schema}" RENAME TO "{at.schema}"')
            except postgres.LockTimeout:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return


def _swap_files(fresh: Path, path: Path, deadline: float) -> None:
    while True:
        try:
            lock = locked(path)
            break
        except ReadModelError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with closing(lock):
        # No journal may be left that belongs to the other file.
        for file in (fresh, path):
            while file.is_file() and not _settled(file):
                if time.monotonic() > deadline:
                    raise ReadModelError("the read model is in use", where=str(file))
                time.sleep(0.1)
        fresh.replace(path)


def _settled(file: Path) -> bool:
    """Bring what is in a file's journal into the file; whether the journal is gone."""
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=1)) as db:
            mode = db.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        if mode != "delete":
            return False
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        # A broken file: its journal goes with it.
        for suffix in ("-wal", "-shm"):
            file.with_name(f"{file.name}{suffix}").unlink(missing_ok=True)
    return True
