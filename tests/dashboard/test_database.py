"""What SQLite and PostgreSQL answer alike."""

from __future__ import annotations

from contextlib import closing

from dashboard.database import open_to_read, open_to_write
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
