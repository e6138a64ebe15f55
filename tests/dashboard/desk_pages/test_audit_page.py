"""Audit: entries, the chain, and exports."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from threading import Event

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import audit_verifier
from dashboard.audit_export import COLUMNS, as_csv, jsonl
from dashboard.audit_verifier import Verified
from dashboard.queries.audit import AuditFilter, export_entries
from dashboard.reader import open_reader
from dashboard.store import Store
from stream.database_url import ReadModelAt
from stream.topics import AUDIT
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open, everything
from tests.dashboard.outcome_feed import batch_of_outcomes, event
from tests.dashboard.test_pages import words


def read_through(test: AppTest) -> AppTest:
    """The page once the chains are read: they are read beside it."""
    while "reading the chains" in everything(test):
        test.run()
    return test


def test_the_audit_lists_what_was_done_and_its_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    test = open_page("audit", people="true")
    frame = test.dataframe[-1].value
    assert set(frame["Who"]) <= {"kestrel", "heron"}
    assert {"rule.save", "alert.mute"} <= set(frame["What"])
    assert "chain whole" in everything(read_through(test))
    only = open_page("audit", kind="Rules").dataframe[-1].value
    assert set(only["What"]) == {"rule.save"}


def test_a_changed_entry_breaks_the_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    with sqlite3.connect(database) as broken:
        for (name,) in broken.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            broken.execute(f"DROP TRIGGER {name}")
        broken.execute("UPDATE audit SET who = 'nobody' WHERE what = 'rule.save'")
    broken.close()
    test = read_through(open_page("audit"))
    assert "The audit is broken" in words(test)
    assert "audit[0]@0" in words(test)


def test_a_page_does_not_wait_for_the_chains_and_verifies_again_when_asked(
    open_page: Open, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(database, posts=30)
    read, may_go_on = audit_verifier.verified, Event()

    def slowly(at: ReadModelAt, now_ms: int) -> Verified | None:
        may_go_on.wait()
        return read(at, now_ms)

    monkeypatch.setattr(audit_verifier, "verified", slowly)
    test = open_page("audit")
    assert "reading the chains" in everything(test)
    assert "chain whole" not in everything(test)
    assert len(test.dataframe[-1].value) > 10, "entries are there meanwhile"
    may_go_on.set()
    assert "chain whole" in everything(read_through(test))
    with Store(database) as store:
        store.apply(batch_of_outcomes([(AUDIT, event("sign-in.out", "x", 1))], {"audit": 99}))
    before = next(b.label for b in test.button if b.label == "Verify now")
    held = [e for e in everything(test).splitlines() if "chain whole" in e]
    next(b for b in test.button if b.label == before).click().run()
    assert held != [e for e in everything(read_through(test)).splitlines() if "chain whole" in e]


def test_exports_hold_every_field(database: Path) -> None:
    furnish(database, posts=60)
    with open_reader(database) as reader:
        assert reader is not None
        entries = list(export_entries(reader.db, AuditFilter(people_only=True)))
    lines = [json.loads(line) for line in jsonl(entries).splitlines()]
    assert len(lines) == len(entries) >= 3
    assert all(list(line) == list(COLUMNS) for line in lines)
    formula = msgspec.json.encode({"a": 1}).decode()
    nasty = entries[0]._replace(on='=HYPERLINK("http://x")', detail=formula)
    rows = list(csv.reader(io.StringIO(as_csv([nasty]).decode())))
    assert rows[1][COLUMNS.index("on")].startswith("'=")
