"""What SQLite and PostgreSQL answer alike."""

from __future__ import annotations

from contextlib import closing

import pytest

from dashboard.database import database_errors, open_to_read, open_to_write
from dashboard.store import Store
from stream.database_url import ReadModelAt
from tests.dashboard.conftest import batch_of
from tests.dashboard.label_feed import stream_of


def test_bytes_and_numbers_come_back_as_they_are_stored(place: ReadModelAt) -> None:
    stored = [bytes(range(256)), b"", b"\\x41", b"\0" * 3]
    with Store(place) as store:
        store.apply(batch_of(stream_of(4, start_ms=1_795_000_000_000, posts_per_s=1)))
    with closing(open_to_write(place)) as db:
        db.executemany(
            "UPDATE records SET record = ? WHERE id = ?", [*zip(stored, range(1, 5), strict=True)]
        )
    reading = open_to_read(place)
    assert reading is not None
    with closing(reading) as db:
        sql = "SELECT id, record FROM records WHERE id >= ? ORDER BY id"
        assert db.blobs(sql, [1]) == list(enumerate(stored, 1))
        assert db.blobs(sql, [5]) == []


@pytest.mark.parametrize("count", [1, 39, 40, 1001])
def test_what_is_added_is_there_as_it_was(place: ReadModelAt, count: int) -> None:
    texts = ["", "a\0b", "\ufdd0", "\ufdd00\t\\N\n", "\U0001f980 \u202e", "\\x41", "NULL"]
    posts = []
    for n in range(count):
        row: list[object] = [texts[(n + column) % 7] for column in range(21)]
        row[0], row[1] = n, f"{n}{texts[n % 7]}"
        row[2:7] = [2**62 - n, -1, n, 0, -(2**62)]
        row[7] = n % 2 == 0
        row[12], row[14], row[16] = n / 7, 1, 1e-300
        row[18:] = [n, 0, None if n % 3 else bytes([n % 256, 0, 92])]
        posts.append(tuple(row))
    records = [(n, bytes([n % 256, 0, 92]) * (n % 4)) for n in range(count)]
    Store(place).close()  # which makes the tables
    with closing(open_to_write(place)) as db:
        with db.exclusively():
            db.add("posts", posts)
            db.add("records", records)
            db.add("records", [])
        with pytest.raises(database_errors()), db.exclusively():
            db.add("records", [(count, b"new"), records[0]])
        found = db.execute("SELECT * FROM posts ORDER BY id").fetchall()
        assert [tuple(row) for row in found] == posts
        assert db.blobs("SELECT id, record FROM records ORDER BY id") == records
