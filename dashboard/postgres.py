"""The read model in PostgreSQL: connections, transactions and locks, through psycopg.

Invariant: a connection does what `dashboard.database.Database` says, as SQLite's does; how
statements and values are written for it is `dashboard.postgres_dialect`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import RawCursor, capabilities
from psycopg.errors import LockNotAvailable as LockTimeout
from psycopg.pq import TransactionStatus

from dashboard.errors import ReadModelAwayError, ReadModelError
from dashboard.postgres_dialect import register_types, statement, table_script
from stream.database_url import PostgresUrl

__all__ = [
    "LEAST_VERSION",
    "WRITER_WAIT_S",
    "LockTimeout",
    "PostgresDatabase",
    "connect",
    "hand_over",
    "handed_over",
    "take_writer_lock",
]

#: Older ones get no fixes any more, and are not tested.
LEAST_VERSION: Final = 13
_CONNECT_TIMEOUT_S: Final = 10
#: Of a writer that was killed the server may know a little later.
WRITER_WAIT_S: Final = 10.0
_HAND_OVER_WAIT_S: Final = 5.0
#: From so many rows on COPY into a table of the session is faster than row by row.
_COPY_ROWS: Final = 40
_ROWS_A_CHUNK: Final = 1000

_SESSION: Final = {
    "client_min_messages": "warning",
    # Compiling a query takes longer than any of ours runs.
    "jit": "off",
    "timezone": "UTC",
    # Of a writer whose machine is gone the server knows within a minute, not within hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

#: Of those who only read. Pages ask for little of much, which an index answers: the server's own
#: reckoning is for disks that turn. A second process for a question of a tenth of a second costs
#: more than it saves.
_READER: Final = {"random_page_cost": "1.1", "max_parallel_workers_per_gather": "0"}

_INSERT = re.compile(r"INSERT INTO (\w+)(?: \(([^)]*)\))? VALUES \([?, ]+\)(.*)", re.DOTALL)


class PostgresDatabase:
    """A connection to a schema; see `dashboard.database.Database`.

    Args:
        connection: in autocommit mode, with this module's cursors and types.
        at: the database and the schema.
        old: the schema that `old.` in a statement means, while a read model is rebuilt.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], at: PostgresUrl, old: str | None = None
    ) -> None:
        self._connection = connection
        self._at = at
        self._old = old
        #: By table: the types of its columns, which no table of ours changes while it is open.
        self._columns: dict[str, list[int]] = {}
        #: Gets it when it is closed; None: it is closed for good.
        self.taker: Callable[[PostgresDatabase], None] | None = None

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        """See `Database`."""
        return self._connection.execute(statement(sql, self._old), parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> None:
        """See `Database`."""
        self._connection.cursor().executemany(statement(sql, self._old), rows)

    def put(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `Database`."""
        if len(rows) < _COPY_ROWS:
            self.executemany(sql, rows)
            return
        found = _INSERT.fullmatch(sql)
        assert found is not None
        table, columns, rest = found.groups()
        cursor = self._connection.cursor()
        cursor.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS incoming_{table} ON COMMIT DELETE ROWS"  # noqa: S608  constants
            f" AS SELECT {columns or '*'} FROM {table} WITH NO DATA"
        )
        self._copy(f"incoming_{table}", rows)
        cursor.execute(
            f"WITH incoming AS (DELETE FROM incoming_{table} RETURNING *)"  # noqa: S608  constants
            f" INSERT INTO {table}{f' ({columns})' if columns else ''} SELECT * FROM incoming{rest}"
        )

    def add(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """See `Database`."""
        if rows:
            self._copy(table, rows)

    def _copy(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        types = self._types(table)
        # As text a byte would be two hexadecimal digits, written here and read there.
        with self._connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def _types(self, table: str) -> list[int]:
        """The types of a table's columns, in their order."""
        known = self._columns.get(table)
        if known is None:
            rows = self.execute(
                "SELECT atttypid::BIGINT FROM pg_attribute WHERE attrelid = to_regclass(?)"
                " AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                (table,),
            )
            known = self._columns[table] = [row[0] for row in rows]
        return known

    def each(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        """See `Database`."""
        size = _ROWS_A_CHUNK if capabilities.has_stream_chunked() else 1
        return self._connection.cursor().stream(statement(sql, self._old), parameters, size=size)

    def blobs(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Database`."""
        # As text a byte would be two hexadecimal digits, written there and read here.
        cursor = self._connection.cursor(binary=True)
        return cursor.execute(statement(sql, self._old), parameters).fetchall()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """See `Database`."""
        self.execute("BEGIN")
        try:
            # Taken before anything is read: each statement sees what was committed before it began.
            self.execute("SELECT pg_advisory_xact_lock(?)", (_key("change", self._at),))
            yield
        except BaseException:
            # Of a connection that is gone the server takes everything back itself.
            with contextlib.suppress(psycopg.Error):
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """See `Database`."""
        self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    def version(self) -> int:
        """See `Database`."""
        tables = [
            row[0]
            for row in self.execute(
                "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                " WHERE n.nspname = ? AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
                (self._at.schema,),
            )
        ]
        if "read_model" in tables:
            found: int = self._one("SELECT version FROM read_model")
            return found
        if tables:
            raise ReadModelError(
                f"schema `{self._at.schema}` holds tables that are not ours",
                where=str(self._at),
                hint="name another one: postgresql://.../name?schema=tidegate_read_model",
            )
        return 0

    def migrate(self, scripts: Sequence[str], version: int) -> None:
        """See `Database`."""
        self._make(
            "CREATE TABLE IF NOT EXISTS read_model (version BIGINT NOT NULL);"  # noqa: S608  a number
            f"{table_script(''.join(scripts))}"
            f"DELETE FROM read_model; INSERT INTO read_model VALUES ({int(version)});"
        )

    def make(self, script: str) -> None:
        """See `Database`."""
        there = self.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._at.schema,))
        if there.fetchone() is None:
            self._make(table_script(script))

    def _make(self, script: str) -> None:
        # Sent as one message, which is one transaction: a server runs all of it or nothing.
        schema = self._at.schema
        try:
            self._connection.execute(
                f"SELECT pg_advisory_xact_lock({_key('make', self._at)});"
                f'CREATE SCHEMA IF NOT EXISTS "{schema}";{script}'
            )
        except psycopg.errors.InsufficientPrivilege as exc:
            raise ReadModelError(
                f"the user may not create schema `{schema}`",
                where=str(self._at),
                hint=f'GRANT CREATE ON DATABASE "{self._at.name}" TO "{self._at.user}"',
            ) from exc

    def bytes_held(self) -> int:
        """See `Database`."""
        size = self._one(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = ? AND c.relkind = 'r'",
            self._at.schema,
        )
        return int(size or 0)

    def close(self) -> None:
        """See `Database`."""
        if self.taker is not None:
            self.taker(self)
        else:
            self._connection.close()

    def nothing_under_way(self) -> bool:
        """Whether it is open, in no transaction, and no rows of a statement are still to come."""
        status = self._connection.info.transaction_status
        return not self._connection.closed and status == TransactionStatus.IDLE

    def try_lock(self, purpose: str, wait_s: float) -> bool:
        """Take a lock of the session for a purpose, trying for some seconds; whether it was given."""
        deadline = time.monotonic() + wait_s
        while True:
            if self._one("SELECT pg_try_advisory_lock(?)", _key(purpose, self._at)):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)

    def is_locked(self, purpose: str) -> bool:
        """Whether some session has the lock."""
        key = _key(purpose, self._at)
        if not self._one("SELECT pg_try_advisory_lock_shared(?)", key):
            return True
        self._one("SELECT pg_advisory_unlock_shared(?)", key)
        return False

    def _one(self, sql: str, *parameters: Any) -> Any:
        row = self.execute(sql, parameters).fetchone()
        assert row is not None
        return row[0]


def connect(
    at: PostgresUrl,
    *,
    read_only: bool = False,
    durable: bool = True,
    old: str | None = None,
    prepared: bool = True,
) -> PostgresDatabase:
    """A connection to the schema, whether it is there yet or not.

    Args:
        at: the database and the schema.
        read_only: it cannot write.
        durable: a commit is on disk; without, a power cut may cost the last ones, never a part of one.
        old: see `PostgresDatabase`.
        prepared: statements that come often are prepared by the server.

    Raises:
        ReadModelError: no server, not this user or password, no such database, too old a server.
    """
    session = {
        **_SESSION,
        "search_path": at.schema,
        "default_transaction_read_only": "on" if read_only else "off",
        "synchronous_commit": "on" if durable else "off",
        **(_READER if read_only else {}),
    }
    parameters: dict[str, Any] = {
        "application_name": "tidegate",
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "client_encoding": "UTF8",
        "host": at.host or None,
        "port": at.port,
        "user": at.user or None,
        "password": at.password.get_secret_value() or None,
        "dbname": at.name or None,
        **dict(at.options),
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
    }
    given = {name: value for name, value in parameters.items() if value is not None}
    try:
        connection = psycopg.Connection.connect(autocommit=True, cursor_factory=RawCursor, **given)
    except psycopg.Error as exc:
        raise _refused(at, exc) from None  # its own text may hold what we were given
    try:
        _check(connection, at)
    except BaseException:
        connection.close()
        raise
    register_types(connection.adapters)
    if not prepared:
        connection.prepare_threshold = None
    return PostgresDatabase(connection, at, old)


def take_writer_lock(db: PostgresDatabase, at: PostgresUrl, wait_s: float | None = None) -> None:
    """Become the one writer of the schema, as long as the connection lasts.

    Raises:
        ReadModelError: another is; the connection is closed.
    """
    if not db.try_lock("writer", WRITER_WAIT_S if wait_s is None else wait_s):
        db.close()
        raise ReadModelError(
            "another projector writes this read model",
            where=str(at),
            hint="stop it, or name another schema: postgresql://.../name?schema=NAME",
        )


@contextmanager
def hand_over(at: PostgresUrl) -> Iterator[None]:
    """Ask whoever writes the schema to let go of it, and not to come back before the end.

    Raises:
        ReadModelError: another rebuild asks for the same.
    """
    with contextlib.closing(connect(at)) as db:
        if not db.try_lock("hand-over", _HAND_OVER_WAIT_S):
            raise ReadModelError("another rebuild puts its read model in place", where=str(at))
        yield


def handed_over(at: PostgresUrl) -> bool:
    """Whether a rebuild is about to put another read model here."""
    with contextlib.closing(connect(at)) as db:
        return db.is_locked("hand-over")


def _check(connection: psycopg.Connection[Any], at: PostgresUrl) -> None:
    version = connection.info.server_version // 10_000
    if version < LEAST_VERSION:
        raise ReadModelError(
            f"the server is PostgreSQL {version}, which is too old",
            where=str(at),
            hint=f"Tidegate needs PostgreSQL {LEAST_VERSION} or newer",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ReadModelError(
            f"the database holds text as {encoding}, which does not have every language",
            where=str(at),
            hint="createdb --encoding=UTF8 --template=template0 NAME",
        )


def _refused(at: PostgresUrl, exc: psycopg.Error) -> ReadModelError:
    """Why there is no connection, without what we were given."""
    told = str(exc)
    if secret := at.password.get_secret_value():
        told = told.replace(secret, "***")
    reason = told.partition("\n")[0].rpartition("FATAL: ")[2].strip()
    # The server may speak any language; what is not known is told as it was said.
    if "password authentication failed" in told or "no password supplied" in told:
        message = "the server does not take this user and password"
        hint = "look at the URL; without a password in it, at PGPASSWORD or ~/.pgpass"
    elif re.search(r'database ".*" does not exist', told):
        message = f"there is no database `{at.name or at.user}`"
        hint = f"createdb --owner={at.user or 'USER'} {at.name or 'NAME'}"
    elif "FATAL" not in told or re.search("starting up|shutting down|too many clients", told):
        return ReadModelAwayError(
            f"no PostgreSQL server answers: {reason.rpartition('failed: ')[2]}",
            where=str(at),
            hint="is it running, and are host and port those of the URL?",
        )
    else:
        message = f"the server does not let us in: {reason}"
        hint = "the server's log has more; pg_hba.conf says who may come from where"
    return ReadModelError(message, where=str(at), hint=hint)


def _key(purpose: str, at: PostgresUrl) -> int:
    """The number of a lock; PostgreSQL's are per database, ours per schema too."""
    digest = hashlib.blake2b(f"tidegate {purpose} {at.schema}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
