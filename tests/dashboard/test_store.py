from __future__ import annotations

import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.errors import ReadModelError
from dashboard.projection import WIDTHS_S, Place, latency_bin, post_row
from dashboard.reader import open_reader
from dashboard.schema import VERSION
from dashboard.store import FINE_RETENTION_S, Batch, PartitionBacklog, Store
from stream.records import DEAD_LETTER_SCHEMA, DeadLetter, Origin, encode
from tests.dashboard.conftest import batch_of
from tests.dashboard.label_feed import Made, label_of, stream_of

START_MS = 1_795_000_000_000


def contents(path: Path) -> dict[str, Any]:
    """Everything in a read model that the records decide, without row numbers and offsets."""
    db = sqlite3.connect(path)
    try:
        models = dict(db.execute("SELECT id, models FROM models"))
        posts = [
            (*row[:-1], models.get(row[-1], ""))
            for row in db.execute(
                "SELECT post_id, origin_ms, origin_partition, origin_offset, posted_ms, labelled_ms,"
                " retracted, text, source, author, language, sentiment, toxicity, toxicity_score,"
                " record, posts.models FROM posts LEFT JOIN records USING (id) ORDER BY post_id"
            )
        ]
        return {
            "posts": posts,
            "rollups": db.execute("SELECT * FROM rollups ORDER BY 1, 2, 3, 4, 5, 6").fetchall(),
            "labelled": db.execute("SELECT * FROM labelled ORDER BY 1").fetchall(),
            "latency": db.execute("SELECT * FROM latency ORDER BY 1, 2").fetchall(),
            "models": sorted(db.execute("SELECT models, posts, first_ms, last_ms FROM models")),
        }
    finally:
        db.close()


def recount(path: Path) -> dict[str, Any]:
    """The rollups, counted from the posts that stand."""
    db = sqlite3.connect(path)
    try:
        rollups: Counter[Any] = Counter()
        labelled: Counter[Any] = Counter()
        latency: Counter[Any] = Counter()
        for posted, at, *group in db.execute(
            "SELECT posted_ms, labelled_ms, source, language, sentiment, toxicity FROM posts"
            " WHERE NOT retracted"
        ):
            for width in WIDTHS_S:
                rollups[(width, posted // 1000 // width * width, *group)] += 1
            labelled[at // 1000] += 1
            latency[at // 10_000 * 10, latency_bin(at - posted)] += 1
        return {
            "rollups": sorted((*key, n) for key, n in rollups.items()),
            "labelled": sorted(labelled.items()),
            "latency": sorted((*key, n) for key, n in latency.items()),
        }
    finally:
        db.close()


@st.composite
def records(draw: st.DrawFn) -> list[Made]:
    """Labels, edits, deletes and records made twice, of few posts, so that they meet."""
    made = []
    rng = random.Random(draw(st.integers(0, 1000)))
    for n in range(draw(st.integers(1, 25))):
        post_id = f"p{draw(st.integers(0, 6))}"
        record = label_of(
            n,
            posted_ms=START_MS + draw(st.integers(0, 40_000)),
            rng=rng,
            partitions=draw(st.integers(1, 3)),
            post_id=post_id,
            retracted=draw(st.integers(0, 5)) == 0,
        )
        made.append(record)
        if draw(st.integers(0, 4)) == 0:
            again = label_of(
                n,
                posted_ms=record.label.origin.timestamp_ms if record.label.origin else 0,
                rng=random.Random(n),
                partitions=1,
                post_id=post_id,
                latency_ms=draw(st.integers(1000, 9000)),
            )
            made.append(again)
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=records(), data=st.data())
def test_any_order_and_duplication_gives_the_same_read_model(
    made: list[Made], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    once = folder / "once.db"
    with Store(once) as store:
        store.apply(batch_of(made))

    twice = [*made, *data.draw(st.lists(st.sampled_from(made), max_size=20))]
    shuffled = data.draw(st.permutations(twice))
    other = folder / "other.db"
    with Store(other) as store:
        while shuffled:
            size = data.draw(st.integers(1, 10))
            store.apply(batch_of(shuffled[:size]))
            shuffled = shuffled[size:]

    assert contents(other) == contents(once)
    assert {k: v for k, v in contents(once).items() if k in recount(once)} == recount(once)


def test_a_retraction_leaves_neither_text_nor_labels_nor_counts(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    rng = random.Random(1)
    post = label_of(
        0, posted_ms=START_MS, rng=rng, post_id="p", text="take this back", author="ann"
    )
    gone = label_of(7, posted_ms=START_MS + 5, rng=rng, post_id="p", retracted=True)
    with Store(path) as store:
        store.apply(batch_of([post]))
        assert b"take this back" in path.read_bytes() + _wal(path)
        store.apply(batch_of([gone]))
        store.apply(batch_of([post]))  # a late duplicate brings nothing back
    found = contents(path)
    assert found["rollups"] == found["labelled"] == found["latency"] == []
    assert [row[7:14] for row in found["posts"]] == [("", "", "", "", "", "", 0.0)]
    assert found["posts"][0][14] is None
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.post("p") is None
        assert reader.retracted("p")


def test_a_delete_on_another_partition_still_deletes(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    rng = random.Random(1)
    # Offset 100 of partition 3, then its delete, without an author, at offset 2 of partition 0.
    post = label_of(403, posted_ms=START_MS, rng=rng, post_id="p")
    gone = label_of(8, posted_ms=START_MS + 1, rng=rng, post_id="p", retracted=True)
    with Store(path) as store:
        store.apply(batch_of([gone]))
        store.apply(batch_of([post]))
    assert contents(path)["rollups"] == []


def _wal(path: Path) -> bytes:
    return path.with_name(f"{path.name}-wal").read_bytes()


def test_retention_drops_the_oldest_keeps_the_counts_and_takes_no_late_duplicate(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.db"
    made = list(stream_of(1500, start_ms=START_MS))
    with Store(path, retention_posts=1000) as store:
        store.apply(batch_of(made))
        before = contents(path)
        store.tidy(START_MS)
        store.apply(batch_of(made[:200]))
    after = contents(path)
    assert len(after["posts"]) == 1000
    assert min(row[4] for row in after["posts"]) == made[500].label.origin.timestamp_ms  # type: ignore[union-attr]
    assert after["rollups"] == before["rollups"]
    assert after["labelled"] == before["labelled"]
    with Store(path, retention_posts=1000) as store:  # what was dropped is remembered
        store.apply(batch_of(made[200:400]))
    assert contents(path)["rollups"] == before["rollups"]


def test_fine_rollups_expire_and_a_correction_does_not_leave_a_negative_count(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.db"
    rng = random.Random(1)
    post = label_of(0, posted_ms=START_MS, rng=rng, post_id="p")
    gone = label_of(4, posted_ms=START_MS + 1, rng=rng, post_id="p", retracted=True)
    with Store(path) as store:
        store.apply(batch_of([post]))
        store.tidy(START_MS + (FINE_RETENTION_S + 60) * 1000)
        assert [row[0] for row in contents(path)["rollups"]] == [300]
        assert contents(path)["latency"] == []
        store.apply(batch_of([gone]))
    found = contents(path)
    assert found["rollups"] == found["latency"] == found["labelled"] == []


def test_rows_and_offsets_are_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    made = list(stream_of(20, start_ms=START_MS))
    with Store(path) as store:
        store.apply(batch_of(made[:10]))
        before, offsets = contents(path), store.offsets("labels")
        bad = batch_of(made[10:])
        bad.offsets["labels", 0] = object()  # type: ignore[assignment]
        with pytest.raises(ReadModelError):
            store.apply(bad)
        assert contents(path) == before
        assert store.offsets("labels") == offsets
        store.apply(batch_of(made[10:]))  # and the store goes on
    assert len(contents(path)["posts"]) == 20


def test_dead_letters_are_known_by_the_place_they_came_from(tmp_path: Path) -> None:
    from dashboard.projection import dead_letter_row

    def letter(offset: int | None, at: str) -> bytes:
        origin = offset is not None and Origin(
            topic="posts", partition=1, offset=offset, timestamp_ms=START_MS
        )
        return encode(
            DeadLetter(
                schema=DEAD_LETTER_SCHEMA,
                dead_letter_id="x",
                reason="not-json",
                error="not JSON: x",
                original=b"\xff" * 5000,
                original_bytes=5000,
                at=at,
                origin=origin or None,
                input=None if origin else "feed.jsonl:3",
            )
        )

    rows = [
        dead_letter_row(letter(5, "2026-11-22T10:00:00Z"), Place(1, 0, 0)),
        dead_letter_row(letter(5, "2026-11-22T10:00:09Z"), Place(1, 1, 0)),  # made twice
        dead_letter_row(letter(None, "2026-11-22T10:00:01Z"), Place(0, 0, 0)),
        dead_letter_row(letter(None, "2026-11-22T10:00:01Z"), Place(0, 0, 0)),  # read twice
    ]
    path = tmp_path / "m.db"
    with Store(path) as store:
        store.apply(Batch(dead_letters=rows))
        store.apply(Batch(dead_letters=rows))
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.dead_letter_reasons() == [("not-json", 2)]
        found = reader.dead_letters(10)
    assert [(row["topic"], row["input"]) for row in found] == [("", "feed.jsonl:3"), ("posts", "")]
    assert len(found[0]["original"]) == 2048


def test_one_writer_and_the_next_one_may_write(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with Store(path), pytest.raises(ReadModelError, match="another projector"):
        Store(path)
    with Store(path) as store:
        store.sample_backlog([PartitionBacklog(0, 10, 4, 6)], START_MS)
    with open_reader(path) as reader:
        assert reader is not None
        assert [tuple(row)[:4] for row in reader.backlog()] == [(0, 10, 4, 6)]


def test_a_reader_does_not_hold_up_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    made = list(stream_of(40, start_ms=START_MS))
    with Store(path) as store:
        store.apply(batch_of(made[:20]))
        slow = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        rows = slow.execute("SELECT * FROM posts")
        rows.fetchone()  # a read transaction is open now
        store.apply(batch_of(made[20:]))
        assert len(rows.fetchall()) == 19
        slow.close()
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.size()[0] == 40


def test_a_file_that_is_newer_or_not_ours_is_refused(tmp_path: Path) -> None:
    newer, other = tmp_path / "newer.db", tmp_path / "other.db"
    db = sqlite3.connect(newer)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(ReadModelError, match="version"):
        Store(newer)
    other.write_bytes(b"this is a text file, not a database\n" * 100)
    with pytest.raises(ReadModelError, match="not a database"):
        Store(other)
    with pytest.raises(ReadModelError, match="not a database"), open_reader(other):
        pass
    with open_reader(tmp_path / "none.db") as reader:
        assert reader is None


def test_two_answers_for_one_place_are_one_and_the_first_counts() -> None:
    first = label_of(0, posted_ms=START_MS, rng=random.Random(1), post_id="p", latency_ms=50)
    second = label_of(0, posted_ms=START_MS, rng=random.Random(2), post_id="p", latency_ms=90)
    a, b = (post_row(made.value, Place(0, 0, 0)) for made in (first, second))
    assert a.wins_over(b)
    assert not b.wins_over(a)
