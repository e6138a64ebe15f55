"""What the dashboard's tests share: places for a read model, and one filled without a broker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dashboard.database import driver, open_to_read
from dashboard.projection import Place, post_row
from dashboard.store import Batch, Store
from stream.database_url import PostgresUrl, ReadModelAt
from tests.dashboard.label_feed import Made
from tests.postgres import Postgres, missing

LABELS = "labels"
NewPlace = Callable[[], ReadModelAt]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for the session, started by the first test that needs it.

    Do not stop it: a test that does needs a `Postgres` of its own.
    """
    if (reason := missing()) is not None:
        pytest.skip(reason)
    # Not below pytest's folder, into which only its owner may look.
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-postgres-"))
        yield stack.enter_context(Postgres(Path(folder)))


@pytest.fixture(scope="session")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> NewPlace:
    """`new_file()`: where a read model can be made in SQLite."""
    return lambda: tmp_path_factory.mktemp("read-model") / "m.db"


@pytest.fixture(scope="session")
def new_schema(postgres: Postgres) -> NewPlace:
    """`new_schema()`: where a read model can be made in PostgreSQL."""
    return postgres.fresh


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    """`new_place()`: where a read model can be made; each kind of database in turn."""
    name = "new_file" if request.param == "sqlite" else "new_schema"
    found: NewPlace = request.getfixturevalue(name)
    return found


@pytest.fixture
def place(new_place: NewPlace) -> ReadModelAt:
    """Where a read model can be made; on each kind of database in turn."""
    return new_place()


Ask = Callable[[str], list[Any]]


@contextmanager
def asking(at: ReadModelAt) -> Iterator[Ask]:
    """`ask(sql)`: the rows of a statement in the SQL that both databases share."""
    db = open_to_read(at)
    assert db is not None
    with closing(db):
        yield lambda sql: db.execute(sql).fetchall()


def tampered(at: ReadModelAt, *statements: str) -> None:
    """Change a read model as somebody with the file or the server's password might."""
    if isinstance(at, PostgresUrl):
        with closing(driver().connect(at)) as db:
            db.execute("ALTER TABLE audit DISABLE TRIGGER ALL")
            for sql in statements:
                db.execute(sql)
        return
    import sqlite3

    with closing(sqlite3.connect(at, isolation_level=None)) as file:
        file.execute("DROP TRIGGER IF EXISTS audit_is_append_only")
        for sql in statements:
            file.execute(sql)


def without_desk(at: ReadModelAt) -> None:
    """Take away who has which post in hand."""
    if isinstance(at, PostgresUrl):
        with closing(driver().connect(at)) as db:
            db.execute(f'DROP SCHEMA "{at.schema}_desk" CASCADE')
    else:
        at.with_name(f"{at.name}.desk").unlink()


def batch_of(made: Iterable[Made]) -> Batch:
    """The records as the projector would read them, offsets counted per partition."""
    batch = Batch()
    next_offset: dict[int, int] = {}
    for record in made:
        offset = next_offset.get(record.partition, 0)
        next_offset[record.partition] = offset + 1
        batch.posts.append(post_row(record.value, Place(record.partition, offset, 0)))
    batch.offsets = {(LABELS, partition): offset for partition, offset in next_offset.items()}
    return batch


@pytest.fixture
def fill(new_place: NewPlace) -> Callable[..., ReadModelAt]:
    """`fill(records)`: a read model that holds them; where it is, each kind of database in turn."""

    def fill(made: Iterable[Made]) -> ReadModelAt:
        at = new_place()
        with Store(at) as store:
            store.apply(batch_of(made))
        return at

    return fill
