"""What only PostgreSQL has: a URL with a secret, a server that may not let us in, other people's tables."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import page
from dashboard.database import database_errors, driver
from dashboard.desk import open_desk
from dashboard.errors import ReadModelAwayError, ReadModelError
from dashboard.outcome_rows import delivery_row, metric_row
from dashboard.process import environment
from dashboard.projection import Place, UnreadableRecordError
from dashboard.reader import open_reader
from dashboard.store import Store
from dashboard.swap import remove
from stream.database_url import PostgresUrl, ReadModelAt, parse_database
from stream.errors import ConfigError
from stream.outcomes import DELIVERY_SCHEMA, METRIC_SCHEMA, Delivery, Metric
from stream.records import encode
from stream.settings import KafkaSettings, load_settings, settings_in_force
from tests.conftest import RunTidegate
from tests.dashboard.conftest import NewPlace, batch_of
from tests.dashboard.history_feed import keep_history
from tests.dashboard.label_feed import label_of, stream_of
from tests.dashboard.test_projector import projecting, send, until
from tests.postgres import PASSWORD, Postgres, missing

START_MS = 1_795_000_000_000
URL = "postgresql://ann:hunter2%40%2F@db.example:6543/feed?schema=watch&sslmode=verify-full"
PAGES = ("live", "trends", "review", "rules", "alerts", "models", "audit", "system")


def test_a_url_is_masked_wherever_it_is_shown_and_whole_for_a_child() -> None:
    environ = {"TIDEGATE_DASHBOARD__DATABASE": URL}
    settings = load_settings(environ=environ)
    at = settings.dashboard.database
    assert isinstance(at, PostgresUrl)
    assert (at.user, at.host, at.port) == ("ann", "db.example", 6543)
    assert at.password.get_secret_value() == "hunter2@/"
    assert (at.name, at.schema, at.options) == ("feed", "watch", (("sslmode", "verify-full"),))
    masked = "postgresql://ann:***@db.example:6543/feed?sslmode=verify-full&schema=watch"
    assert str(at) == masked
    in_force = {row.name: row for row in settings_in_force(environ=environ)}
    assert in_force["dashboard.database"].value == masked
    for shown in (at, settings, settings.model_dump(), in_force, at.with_schema("x")):
        assert "hunter2" not in repr(shown) + str(shown)
    child = environment(settings, {})
    assert load_settings(environ=child) == settings


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:hunter2@h/d", "begins with `postgresql://`"),
        ("postgresql://u:hunter2@h:port/d", "of a password as %40"),
        ("postgresql://u:hunter2#@h/d", "and %23"),
        ("postgresql://u@h/d?password=hunter2", "`password` is no parameter"),
        ("postgresql://u:hunter2@h/d?schema=Public;", "`schema` has up to 40 small letters"),
    ],
)
def test_a_url_that_is_none_is_explained_without_its_secret(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)) as told:
        load_settings({"dashboard.database": url}, {})
    assert "hunter2" not in str(told.value)
    assert "command line" in str(told.value)


@pytest.mark.parametrize(
    "url", ["postgres://h/d", "postgresql:///d?host=/run/postgresql", "postgresql://u:p@[::1]:1/d"]
)
def test_what_is_written_out_is_read_back(url: str) -> None:
    at = parse_database(url)
    assert isinstance(at, PostgresUrl)
    assert parse_database(at.get_secret_value()) == at


def refused(at: PostgresUrl) -> str:
    with pytest.raises(ReadModelError) as told:
        Store(at)
    with pytest.raises(ReadModelError, match=re.escape(told.value.message)), open_reader(at):
        pass
    said = str(told.value)
    assert at.password.get_secret_value() not in said
    assert str(at) in said
    return said


def test_who_is_not_let_in_is_told_why(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = refused(postgres.url(port=free.getsockname()[1]))
    assert "no PostgreSQL server answers" in nobody
    assert "Connection refused" in nobody
    wrong = refused(postgres.url(password=SecretStr("Not-that-one")))
    assert "does not take this user and password" in wrong
    absent = refused(postgres.url("nothing"))
    assert "there is no database `nothing`" in absent
    assert "createdb --owner=tidegate nothing" in absent
    with closing(driver().connect(postgres.url())) as db:
        db.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "holds text as LATIN1" in refused(postgres.url("latin"))
    monkeypatch.setattr("dashboard.postgres.LEAST_VERSION", 99)
    assert "which is too old" in refused(postgres.url())


def test_without_the_driver_the_extra_is_named(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('not here')")
    env = {"PYTHONPATH": str(tmp_path)}
    told = run_tidegate("audit", "verify", "--database", URL, env=env)
    assert told.returncode == 1
    assert "pip install 'tidegate[postgres]'" in told.stderr
    assert "hunter2" not in told.stderr + told.stdout


def test_the_command_line_takes_a_url_and_says_what_is_wrong_with_it(
    run_tidegate: RunTidegate, postgres: Postgres, new_schema: NewPlace
) -> None:
    at = new_schema()
    assert isinstance(at, PostgresUrl)
    where = ("--database", at.get_secret_value())
    none = run_tidegate("audit", "verify", *where)
    assert none.returncode == 2
    assert str(at) in none.stderr
    with Store(at) as store:
        store.apply(batch_of(stream_of(3, start_ms=START_MS)))
    whole = run_tidegate("audit", "verify", *where, "--json")
    assert (whole.returncode, whole.stderr) == (0, "")
    wrong = run_tidegate(
        "dashboard",
        *("--port", "0"),
        "--database",
        postgres.url(password=SecretStr("Not-that-one")).get_secret_value(),
    )
    assert wrong.returncode == 1
    assert "does not take this user and password" in wrong.stderr
    assert "Not-that-one" not in wrong.stderr


def test_tables_of_others_are_neither_used_nor_dropped(new_schema: NewPlace) -> None:
    at = new_schema()
    assert isinstance(at, PostgresUrl)
    with closing(driver().connect(at)) as db:
        db.execute(f'CREATE SCHEMA "{at.schema}"')
        db.execute("CREATE TABLE invoices (id BIGINT)")
        assert "holds tables that are not ours" in refused(at)
        with pytest.raises(ReadModelError, match="not ours"):
            remove(at)
        db.execute("SELECT * FROM invoices")


def test_a_projector_waits_for_a_server_that_ends_and_goes_on(
    embedded_topics: KafkaSettings,
) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    now_ms = (int(time.time()) - 600) * 1000
    made = list(stream_of(90, start_ms=now_ms))
    with tempfile.TemporaryDirectory(prefix="tidegate-postgres-") as folder:
        server = Postgres(Path(folder))
        with server:
            at = server.fresh()
            send(embedded_topics, made[:30])
            with projecting(embedded_topics, at) as projector:
                until(lambda r: r.size()[0] == 30, at)
                before = backend_of_pages(at)
                assert backend_of_pages(at) == before, "one connection serves one after the other"
                server.stop()
                with pytest.raises(ReadModelAwayError, match="no PostgreSQL server answers"):
                    Store(at)
                send(embedded_topics, made[30:])
                with (
                    pytest.raises(ReadModelAwayError, match="no PostgreSQL server answers"),
                    open_reader(at, kept=True),
                ):
                    pass
                server.start()
                until(lambda r: r.size()[0] == 90, at)
                assert backend_of_pages(at) != before
                assert projector.poll() is None
            with open_reader(at) as reader:
                assert reader is not None
                assert reader.counters()["labels"] == 90


def backend_of_pages(at: ReadModelAt) -> int:
    """The server's process that answers the pages."""
    with open_reader(at, kept=True) as reader:
        assert reader is not None
        found: int = reader.db.execute("SELECT pg_backend_pid()").fetchone()[0]
    return found


def test_a_connection_is_kept_for_one_at_a_time_and_only_when_it_is_free(
    new_schema: NewPlace,
) -> None:
    at = new_schema()
    with Store(at) as store:
        store.apply(batch_of(stream_of(3, start_ms=START_MS)))
    first = backend_of_pages(at)
    with open_reader(at, kept=True), open_reader(at, kept=True) as other:
        assert other is not None
        assert other.db.execute("SELECT pg_backend_pid()").fetchone()[0] != first
        with pytest.raises(database_errors(), match="read-only"):
            other.db.execute("DELETE FROM posts")
    # Whoever leaves in the middle of something gives nothing back.
    with open_reader(at, kept=True) as left:
        assert left is not None
        abandoned = left.db.execute("SELECT pg_backend_pid()").fetchone()[0]
        left.db.execute("BEGIN")
    assert backend_of_pages(at) != abandoned
    # Another schema in the same place is read as it is.
    remove(at)
    with open_reader(at, kept=True) as reader:
        assert reader is None
    with Store(at) as store:
        store.apply(batch_of(stream_of(5, start_ms=START_MS)))
    with open_reader(at, kept=True) as reader:
        assert reader is not None
        assert reader.size()[0] == 5


def test_many_open_a_new_desk_at_once(new_schema: NewPlace) -> None:
    at = new_schema()
    failed: list[BaseException] = []

    def open_one() -> None:
        try:
            with open_desk(at) as desk:
                desk.in_hand(0)
        except BaseException as exc:  # noqa: BLE001 - told below
            failed.append(exc)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_ids_too_long_for_an_index_are_no_records() -> None:
    """A record that PostgreSQL cannot hold must not stop the projector for good."""
    emoji = "\U0001f30a"
    longest = label_of(0, posted_ms=START_MS, rng=random.Random(1), post_id=emoji * 512)
    assert len(longest.label.post_id.encode()) == 2048
    delivery = Delivery(
        schema=DELIVERY_SCHEMA, delivery_id=emoji * 700, target="t", kind="decision",
        record_id="r", state="delivered", attempt=1, at="2026-11-22T10:00:00Z",
    )  # fmt: skip
    metric = Metric(
        schema=METRIC_SCHEMA, start=0, width_s=60, by="tag", group="x" * 3000, partition=0,
        revision=1, posts=1,
    )  # fmt: skip
    for row_of, record in ((delivery_row, delivery), (metric_row, metric)):
        with pytest.raises(UnreadableRecordError, match="too long"):
            row_of(encode(record), Place(0, 0, 0))


def test_the_longest_ids_are_held(new_schema: NewPlace) -> None:
    rng = random.Random(3)
    at = new_schema()
    # Nothing that could be packed: the index has to take it as it is.
    names = ["".join(chr(rng.randrange(0x20000, 0x2A6D0)) for _ in range(512)) for _ in range(2)]
    made = [
        label_of(n, posted_ms=START_MS + n, rng=rng, post_id=name, author=name)
        for n, name in enumerate(names)
    ]
    with Store(at) as store:
        store.apply(batch_of(made))
    with open_reader(at) as reader:
        assert reader is not None
        assert all(reader.post(name) for name in names)


@pytest.fixture
def history(new_schema: NewPlace, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresUrl]:
    at = new_schema()
    assert isinstance(at, PostgresUrl)
    keep_history(at)
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", at.get_secret_value())
    page.settings.clear()
    yield at
    page.settings.clear()


def test_every_page_reads_postgres(history: PostgresUrl) -> None:
    test = AppTest.from_file(str(Path(dashboard.__file__).with_name("app.py")), default_timeout=90)
    for name in PAGES:
        test.switch_page(f"app_pages/{name}.py").run()
        assert not test.exception, (name, test.exception)
        assert [error.value for error in test.error] == [], name
        shown = " ".join(str(frame.value.to_string()) for frame in test.dataframe)
        assert PASSWORD not in shown
        assert name != "system" or str(history) in shown


def test_the_driver_is_not_loaded_for_a_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dashboard.store import Store;"
        " Store(Path(sys.argv[1])).close(); assert 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.db")], check=True)
