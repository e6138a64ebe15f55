"""Audit: entries, the chain, and exports."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import msgspec

from dashboard.audit_export import COLUMNS, as_csv, jsonl
from dashboard.queries.audit import AuditFilter, export_entries
from dashboard.reader import open_reader
from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open, everything
from tests.dashboard.test_pages import words


def test_the_audit_lists_what_was_done_and_its_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    test = open_page("audit", people="true")
    frame = test.dataframe[-1].value
    assert set(frame["Who"]) <= {"kestrel", "heron"}
    assert {"rule.save", "alert.mute"} <= set(frame["What"])
    assert "chain whole" in everything(test)
    only = open_page("audit", kind="Rules").dataframe[-1].value
    assert set(only["What"]) == {"rule.save"}


def test_a_changed_entry_breaks_the_chain(open_page: Open, database: Path) -> None:
    furnish(database, posts=30)
    with sqlite3.connect(database) as broken:
        for (name,) in broken.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            broken.execute(f"DROP TRIGGER {name}")
        broken.execute("UPDATE audit SET who = 'nobody' WHERE what = 'rule.save'")
    broken.close()
    test = open_page("audit")
    assert "The audit is broken" in words(test)
    assert "audit[0]@0" in words(test)


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
