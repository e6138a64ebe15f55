from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.database import database_errors, open_to_read
from dashboard.errors import ReadModelError
from dashboard.projection import WIDTHS_S, Place, latency_bin, post_row
from dashboard.reader import open_reader
from dashboard.retention import FINE_RETENTION_S
from dashboard.schema import MIGRATIONS, VERSION
from dashboard.scope import FeedFilter, Scope
from dashboard.store import Batch, PartitionBacklog, Store
from stream.database_url import ReadModelAt
from stream.records import DEAD_LETTER_SCHEMA, DeadLetter, Origin, encode
from tests.dashboard.conftest import NewPlace, asking, batch_of
from tests.dashboard.label_feed import Made, label_of, stream_of

START_MS = 1_795_000_000_000


def contents(at: ReadModelAt) -> dict[str, Any]:
    """Everything in a read model that the records decide, without row numbers and offsets."""
    with asking(at) as ask:
        models = dict(ask("SELECT id, models FROM models"))
        posts = [
            (*row[:-1], models.get(row[-1], ""))
            for row in ask(
                "SELECT post_id, origin_ms, origin_partition, origin_offset, posted_ms, labelled_ms,"
                " retracted, text, source, author, language, sentiment, toxicity, toxicity_score,"
                " record, posts.models FROM posts LEFT JOIN records USING (id) ORDER BY post_id"
            )
        ]
        return {
            "posts": posts,
            "rollups": ask("SELECT * FROM rollups ORDER BY 1, 2, 3, 4, 5, 6"),
            "labelled": ask("SELECT * FROM labelled ORDER BY 1"),
            "latency": ask("SELECT * FROM latency ORDER BY 1, 2"),
            "models": sorted(ask("SELECT models, posts, first_ms, last_ms FROM models")),
        }


def recount(at: ReadModelAt) -> dict[str, Any]:
    """The rollups, counted from the posts that stand."""
    rollups: Counter[Any] = Counter()
    labelled: Counter[Any] = Counter()
    latency: Counter[Any] = Counter()
    with asking(at) as ask:
        posts = ask(
            "SELECT posted_ms, labelled_ms, source, language, sentiment, toxicity FROM posts"
            " WHERE retracted = 0"
        )
    for posted, labelled_ms, *group in posts:
        for width in WIDTHS_S:
            rollups[(width, posted // 1000 // width * width, *group)] += 1
        labelled[labelled_ms // 1000] += 1
        latency[labelled_ms // 10_000 * 10, latency_bin(labelled_ms - posted)] += 1
    return {
        "rollups": sorted((*key, n) for key, n in rollups.items()),
        "labelled": sorted(labelled.items()),
        "latency": sorted((*key, n) for key, n in latency.items()),
    }


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
    made: list[Made], data: st.DataObject, new_file: NewPlace
) -> None:
    any_order_gives_the_same(made, data, new_file)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=records(), data=st.data())
def test_any_order_gives_the_same_read_model_in_postgres(
    made: list[Made], data: st.DataObject, new_schema: NewPlace
) -> None:
    any_order_gives_the_same(made, data, new_schema)


def any_order_gives_the_same(made: list[Made], data: st.DataObject, new_place: NewPlace) -> None:
    once = new_place()
    with Store(once) as store:
        store.apply(batch_of(made))

    twice = [*made, *data.draw(st.lists(st.sampled_from(made), max_size=20))]
    shuffled = data.draw(st.permutations(twice))
    other = new_place()
    with Store(other) as store:
        while shuffled:
            size = data.draw(st.integers(1, 10))
            store.apply(batch_of(shuffled[:size]))
            shuffled = shuffled[size:]

    assert contents(other) == contents(once)
    assert {k: v for k, v in contents(once).items() if k in recount(once)} == recount(once)


def test_a_retraction_leaves_neither_text_nor_labels_nor_counts(place: ReadModelAt) -> None:
    rng = random.Random(1)
    post = label_of(
        0, posted_ms=START_MS, rng=rng, post_id="p", text="take this back", author="ann"
    )
    gone = label_of(7, posted_ms=START_MS + 5, rng=rng, post_id="p", retracted=True)

    def held() -> list[Any]:
        with asking(place) as ask:
            return ask("SELECT text, (SELECT count(*) FROM records) FROM posts")

    with Store(place) as store:
        store.apply(batch_of([post]))
        assert held() == [("take this back", 1)]
        store.apply(batch_of([gone]))
        store.apply(batch_of([post]))  # a late duplicate brings nothing back
    assert held() == [("", 0)]
    found = contents(place)
    assert found["rollups"] == found["labelled"] == found["latency"] == []
    assert [row[7:14] for row in found["posts"]] == [("", "", "", "", "", "", 0.0)]
    assert found["posts"][0][14] is None
    with open_reader(place) as reader:
        assert reader is not None
        assert reader.post("p") is None
        assert reader.retracted("p")


def test_a_delete_on_another_partition_still_deletes(place: ReadModelAt) -> None:
    rng = random.Random(1)
    # Offset 100 of partition 3, then its delete, without an author, at offset 2 of partition 0.
    post = label_of(403, posted_ms=START_MS, rng=rng, post_id="p")
    gone = label_of(8, posted_ms=START_MS + 1, rng=rng, post_id="p", retracted=True)
    with Store(place) as store:
        store.apply(batch_of([gone]))
        store.apply(batch_of([post]))
    assert contents(place)["rollups"] == []


def test_retention_drops_the_oldest_keeps_the_counts_and_takes_no_late_duplicate(
    place: ReadModelAt,
) -> None:
    made = list(stream_of(1500, start_ms=START_MS))
    with Store(place, retention_posts=1000) as store:
        store.apply(batch_of(made))
        before = contents(place)
        store.tidy(START_MS)
        store.apply(batch_of(made[:200]))
    after = contents(place)
    assert len(after["posts"]) == 1000
    assert min(row[4] for row in after["posts"]) == made[500].label.origin.timestamp_ms  # type: ignore[union-attr]
    assert after["rollups"] == before["rollups"]
    assert after["labelled"] == before["labelled"]
    with Store(place, retention_posts=1000) as store:  # what was dropped is remembered
        store.apply(batch_of(made[200:400]))
    assert contents(place)["rollups"] == before["rollups"]


def test_fine_rollups_expire_and_a_correction_does_not_leave_a_negative_count(
    place: ReadModelAt,
) -> None:
    rng = random.Random(1)
    post = label_of(0, posted_ms=START_MS, rng=rng, post_id="p")
    gone = label_of(4, posted_ms=START_MS + 1, rng=rng, post_id="p", retracted=True)
    with Store(place) as store:
        store.apply(batch_of([post]))
        store.tidy(START_MS + (FINE_RETENTION_S + 60) * 1000)
        assert [row[0] for row in contents(place)["rollups"]] == list(WIDTHS_S[1:])
        assert contents(place)["latency"] == []
        store.apply(batch_of([gone]))
    found = contents(place)
    assert found["rollups"] == found["latency"] == found["labelled"] == []


def test_rows_and_offsets_are_one_transaction(place: ReadModelAt) -> None:
    made = list(stream_of(20, start_ms=START_MS))
    with Store(place) as store:
        store.apply(batch_of(made[:10]))
        before, offsets = contents(place), store.offsets("labels")
        bad = batch_of(made[10:])
        bad.offsets["labels", 0] = object()  # type: ignore[assignment]
        with pytest.raises(ReadModelError):
            store.apply(bad)
        assert contents(place) == before
        assert store.offsets("labels") == offsets
        store.apply(batch_of(made[10:]))  # and the store goes on
    assert len(contents(place)["posts"]) == 20


def test_dead_letters_are_known_by_the_place_they_came_from(place: ReadModelAt) -> None:
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
    with Store(place) as store:
        store.apply(Batch(dead_letters=rows))
        store.apply(Batch(dead_letters=rows))
    with open_reader(place) as reader:
        assert reader is not None
        assert reader.dead_letter_reasons() == [("not-json", 2)]
        found = reader.dead_letters(10)
    assert [(row["topic"], row["input"]) for row in found] == [("", "feed.jsonl:3"), ("posts", "")]
    assert len(found[0]["original"]) == 2048


def test_one_writer_and_the_next_one_may_write(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.postgres.WRITER_WAIT_S", 0.1)
    with Store(place), pytest.raises(ReadModelError, match="another projector"):
        Store(place)
    with Store(place) as store:
        store.sample_backlog([PartitionBacklog(0, 10, 4, 6)], START_MS)
    with open_reader(place) as reader:
        assert reader is not None
        (row,) = reader.backlog()
        assert [row[name] for name in ("partition", "end_offset", "committed", "waiting")] == [
            0, 10, 4, 6,
        ]  # fmt: skip


def test_a_reader_does_not_hold_up_the_writer(place: ReadModelAt) -> None:
    made = list(stream_of(40, start_ms=START_MS))
    with Store(place) as store:
        store.apply(batch_of(made[:20]))
        slow = open_to_read(place)
        assert slow is not None
        with closing(slow):
            rows = slow.each("SELECT * FROM posts")
            next(rows)  # it is in the middle of reading now
            store.apply(batch_of(made[20:]))
            assert len(list(rows)) == 19
            with slow.one_moment():
                before = slow.execute("SELECT count(*) FROM posts").fetchone()
                store.apply(batch_of(made_again(made[0])))
                assert slow.execute("SELECT count(*) FROM posts").fetchone() == before == (40,)
        store.apply(Batch())
    with open_reader(place) as reader:
        assert reader is not None
        posts, size = reader.size()
        assert posts == 41
        assert size > 0


def made_again(made: Made) -> list[Made]:
    """The post under another id, where no post was before."""
    label = msgspec.structs.replace(made.label, post_id="another")
    return [Made(made.partition, label)]


def test_a_reader_cannot_write(place: ReadModelAt) -> None:
    with Store(place):
        pass
    db = open_to_read(place)
    assert db is not None
    with closing(db), pytest.raises(database_errors(), match=r"read-?only"):
        db.execute("DELETE FROM posts")


def test_a_newer_read_model_is_refused_and_none_is_none(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_reader(place) as reader:
        assert reader is None
    with Store(place):
        pass
    for module in ("schema", "reader", "swap"):
        monkeypatch.setattr(f"dashboard.{module}.VERSION", VERSION - 1)
    with pytest.raises(ReadModelError, match=f"version {VERSION}, this program knows") as told:
        Store(place)
    assert str(place) in str(told.value)
    with pytest.raises(ReadModelError, match=f"reads {VERSION - 1}"), open_reader(place):
        pass


def test_an_older_read_model_becomes_a_newer_one_with_all_it_holds(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.schema.MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr("dashboard.schema.VERSION", 1)
    monkeypatch.setattr(Store, "_remember", lambda _: None)  # it asks for newer tables
    with Store(place) as old, old.transaction():
        old._db.execute("INSERT INTO counters VALUES ('labels', 7)")
    monkeypatch.undo()
    with Store(place) as store:
        store.apply(batch_of(stream_of(5, start_ms=START_MS)))
    with open_reader(place) as reader:
        assert reader is not None
        assert reader.counters()["labels"] == 12


def test_what_alerts_of_an_older_read_model_showed_is_taken_over(
    place: ReadModelAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.schema.MIGRATIONS", MIGRATIONS[:2])
    monkeypatch.setattr("dashboard.schema.VERSION", 2)
    with Store(place) as old, old.transaction():
        for alert_id, state in (("a1", "firing"), ("a2", "resolved")):
            old._db.execute(
                "INSERT INTO alerts VALUES (?, 'r', 'threshold', ?, 3, 5, 7, NULL, 0, ?)",
                (alert_id, state, b"{}"),
            )
    monkeypatch.undo()
    with Store(place):
        pass
    with asking(place) as ask:
        assert ask("SELECT * FROM alert_firings") == [("a1", 7, b"{}")]


def test_a_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"this is a text file, not a database\n" * 100)
    with pytest.raises(ReadModelError, match="not a database"):
        Store(other)
    with pytest.raises(ReadModelError, match="not a database"), open_reader(other):
        pass


def test_text_with_nul_and_any_other_character_comes_back_as_it_was(place: ReadModelAt) -> None:
    """A post may hold NUL, which PostgreSQL's text cannot; two ids may differ in nothing else."""
    texts = ["a\0b", "a\ufdd0b", "a\ufdd00b", "\U0010fffe\u202e\x01", "Stra\u00dfe %s $1 ?"]
    made = [
        label_of(n, posted_ms=START_MS + n, rng=random.Random(n), text=text, post_id=text)
        for n, text in enumerate(texts)
    ]
    with Store(place) as store:
        store.apply(batch_of(made))
        store.apply(batch_of(made))
        store.apply(Batch(offsets={("a\0", 0): 1}))
        assert store.offsets("a\0") == {0: 1}
    with open_reader(place) as reader:
        assert reader is not None
        assert sorted(p.text for p in reader.feed(Scope(), FeedFilter(), 10)) == sorted(texts)
        found = reader.post(texts[0])
        assert found is not None
        assert (found[0].post_id, found[1]) == (texts[0], made[0].value)


def test_two_answers_for_one_place_are_one_and_the_first_counts() -> None:
    first = label_of(0, posted_ms=START_MS, rng=random.Random(1), post_id="p", latency_ms=50)
    second = label_of(0, posted_ms=START_MS, rng=random.Random(2), post_id="p", latency_ms=90)
    a, b = (post_row(made.value, Place(0, 0, 0)) for made in (first, second))
    assert a.wins_over(b)
    assert not b.wins_over(a)
