"""The seam between the read model and the database that holds it: SQLite, or PostgreSQL.

Invariant: every statement of the read model is written in the SQL that SQLite and PostgreSQL
share, with `?` for parameters; what differs is here and in `dashboard.postgres` and its dialect.
A transaction is begun with one of the methods here, never with a statement.
"""

from __future__ import annotations

import sqlite3
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from dashboard.errors import ReadModelError
from dashboard.ownership import Lock, locked
from stream.database_url import PostgresUrl, ReadModelAt
from stream.errors import MissingExtraError

_BUSY_S: Final = 30.0


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    @property
    def description(self) -> Any:
        """A sequence for every column, its name the first."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """An open connection; `SqliteDatabase` is one, `dashboard.postgres.PostgresDatabase` another."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run one statement for every row."""
        ...

    def put(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run `INSERT INTO table VALUES (?, ...)`, with or without ON CONFLICT, for many rows.

        All columns of the table in their order; no two rows may have the same key.
        """
        ...

    def add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows, all columns of the table in their order, of keys that are not there yet."""
        ...

    def each(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a query one after the other, however many there are."""
        ...

    def blobs(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query for whole numbers and bytes alone, the bytes sent as they are stored."""
        ...

    def exclusively(self) -> AbstractContextManager[None]:
        """A transaction that no other such transaction, of any process, runs beside."""
        ...

    def one_moment(self) -> AbstractContextManager[None]:
        """Everything that is read inside is of one moment; nothing is written."""
        ...

    def version(self) -> int:
        """The version that the tables were last migrated to; 0: there are none yet.

        Raises:
            ReadModelError: what is there is none of ours.
        """
        ...

    def migrate(self, scripts: Sequence[str], version: int) -> None:
        """Run scripts and become that version, in one transaction."""
        ...

    def make(self, script: str) -> None:
        """Run a script of CREATE ... IF NOT EXISTS."""
        ...

    def bytes_held(self) -> int:
        """The read model's size on disk."""
        ...

    def close(self) -> None:
        """Close it, and let another writer in."""
        ...


class SqliteDatabase(sqlite3.Connection):
    """A connection to a file."""

    path: Path
    lock: Lock | None = None

    def put(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `Database`."""
        self.executemany(sql, rows)

    def add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `Database`."""
        if rows:
            self.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608  constants

    def each(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        """See `Database`."""
        return iter(self.execute(sql, parameters))

    def blobs(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Database`."""
        return self.execute(sql, parameters).fetchall()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """See `Database`."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """See `Database`."""
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    def version(self) -> int:
        """See `Database`."""
        version: int = self.execute("PRAGMA user_version").fetchone()[0]
        return version

    def migrate(self, scripts: Sequence[str], version: int) -> None:
        """See `Database`."""
        # In one go: whoever reads meanwhile sees the old file or the new one, nothing between.
        script = "".join(scripts)
        self.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version = {version};COMMIT;")

    def make(self, script: str) -> None:
        """See `Database`."""
        self.executescript(script)

    def bytes_held(self) -> int:
        """See `Database`."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """See `Database`."""
        super().close()
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def open_sqlite(path: Path, *, read_only: bool = False, busy_s: float = _BUSY_S) -> SqliteDatabase:
    """A connection to a file, used by one thread at a time, whichever that is."""
    uri = f"{path.resolve().as_uri()}{'?mode=ro' if read_only else ''}"
    db = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=busy_s,
        check_same_thread=False,
        factory=SqliteDatabase,
    )
    db.path = path
    return db


def check_database(at: ReadModelAt) -> None:
    """Make sure that a server lets us in, before anything that needs it is started.

    Raises:
        ReadModelError: it does not.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """
    if isinstance(at, PostgresUrl):
        driver().connect(at).close()


def open_to_write(at: ReadModelAt) -> Database:
    """The connection of the one writer; made, with its folder or schema, where it is not there.

    Raises:
        ReadModelError: another writes it, or the place cannot be used.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """
    if isinstance(at, PostgresUrl):
        postgres = driver()
        found: Database = postgres.connect(at, durable=False)
        postgres.take_writer_lock(found, at)
        return found
    lock = locked(at)
    try:
        db = open_sqlite(at, busy_s=10)
    except BaseException:
        lock.close()
        raise
    db.lock = lock
    try:
        for pragma in (
            "journal_mode = WAL",
            # Survives kill -9; a power cut may cost the last transactions, offsets included.
            "synchronous = NORMAL",
            "cache_size = -65536",
            "journal_size_limit = 67108864",
            "temp_store = MEMORY",
        ):
            db.execute(f"PRAGMA {pragma}")
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(at: ReadModelAt, *, kept: bool = False) -> Database | None:
    """A connection that cannot write; None: there is nothing yet.

    Args:
        at: the read model.
        kept: a server's connection is not closed but kept for the next who asks so.

    Raises:
        ReadModelError: the server does not let us in.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """
    if isinstance(at, PostgresUrl):
        found: Database = (
            _lender().lend(at, read_only=True) if kept else driver().connect(at, read_only=True)
        )
        return found
    return open_sqlite(at, read_only=True, busy_s=5) if at.is_file() else None


def open_beside(at: ReadModelAt, name: str, *, kept: bool = False) -> Database:
    """A small database of its own that belongs to a read model and outlives its rebuilds.

    Args:
        at: the read model.
        name: the database's.
        kept: see `open_to_read`.

    Raises:
        ReadModelError: the server does not let us in, or there is no folder for the file.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """
    if isinstance(at, PostgresUrl):
        beside = at.with_schema(f"{at.schema}_{name}")
        found: Database = _lender().lend(beside) if kept else driver().connect(beside)
        return found
    path = at.with_name(f"{at.name}.{name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ReadModelError(f"cannot make the folder: {exc.strerror}", where=str(path)) from exc
    db = open_sqlite(path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        db.close()
        raise
    return db


def driver() -> types.ModuleType:
    """`dashboard.postgres`.

    Raises:
        MissingExtraError: psycopg is not installed.
    """
    try:
        from dashboard import postgres
    except ImportError as exc:
        raise MissingExtraError(
            "PostgreSQL's driver `psycopg` is not installed",
            hint="pip install 'tidegate[postgres]'",
        ) from exc
    return postgres


def _lender() -> types.ModuleType:
    driver()  # says what is missing
    from dashboard import kept_connections

    return kept_connections


def database_errors() -> tuple[type[Exception], ...]:
    """What a statement may raise, for `except`."""
    if "psycopg" in sys.modules:
        import psycopg

        return (sqlite3.DatabaseError, psycopg.Error)
    return (sqlite3.DatabaseError,)


def is_away(error: Exception) -> bool:
    """Whether it says that the server went away: 57P.. is the class of its own shutdowns."""
    if "psycopg" not in sys.modules:
        return False
    import psycopg

    return isinstance(error, psycopg.OperationalError) and (
        error.sqlstate is None or error.sqlstate.startswith("57P")
    )


def reason_of(error: Exception) -> str:
    """What a database says went wrong, in one line and without the values it was given."""
    told = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(told or error).strip().partition("\n")[0]


def made_again_hint(at: ReadModelAt) -> str:
    """What to do about a read model that is not usable."""
    if isinstance(at, PostgresUrl):
        return "look into the server's log; `tidegate dashboard rebuild` makes it again from the topics"
    return "free some space, or delete the file: it is made again from the topics"
