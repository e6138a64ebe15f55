"""The audit's chains: the same however they were read, broken where anything was changed."""

from __future__ import annotations

import random
from contextlib import closing

import msgspec
import pytest

from dashboard.database import database_errors, open_to_write
from dashboard.queries import audit
from dashboard.reader import open_reader
from dashboard.store import Batch, Store
from stream.database_url import ReadModelAt
from stream.outcomes import Action
from stream.topics import AUDIT, DECISIONS, REVIEWS, Topic
from tests.dashboard.conftest import NewPlace, tampered
from tests.dashboard.label_feed import label_of
from tests.dashboard.outcome_feed import batch_of_outcomes, decision_on, event, review_on

START_MS = 1_795_000_000_000
Record = tuple[Topic, msgspec.Struct]


def test_the_audit_chain_is_the_same_however_it_was_read_and_knows_a_change(
    new_place: NewPlace,
) -> None:
    made = [label_of(n, posted_ms=START_MS + n, rng=random.Random(n)) for n in range(6)]
    judged = [decision_on(m.label, Action.REVIEW) for m in made]
    records: list[Record] = [(DECISIONS, d) for d in judged]
    records += [(REVIEWS, review_on(judged[0], "heron", Action.HIDE, START_MS + 100))]
    records += [(AUDIT, event("rule.edit", "rude", START_MS + 200, before="0.7", after="0.8"))]
    hashes = []
    places = []
    for size in (100, 1):
        file, offsets = new_place(), dict[str, int]()
        places.append(file)
        with Store(file) as store:
            for start in range(0, len(records), size):
                store.apply(batch_of_outcomes(records[start : start + size], offsets))
                # Read again after a crash: nothing is chained twice.
                store.apply(
                    batch_of_outcomes(
                        records[start : start + size],
                        {t.name: _before(records[:start], t) for t in (DECISIONS, REVIEWS, AUDIT)},
                    )
                )
        with open_reader(file) as reader:
            assert reader is not None
            hashes.append([(c.topic, c.entries, c.hash) for c in audit.chains(reader.db)])
            people = audit.audit_entries(reader.db, audit.AuditFilter(people_only=True))
            assert [e.what for e in people] == ["rule.edit", "review.decide"]
            family = audit.audit_entries(reader.db, audit.AuditFilter(what="decision."))
            assert len(family) == 6
            assert audit.first_broken_chain(reader.db) is None
    assert hashes[0] == hashes[1]
    assert [(topic, n) for topic, n, _ in hashes[0]] == [
        ("audit", 1),
        ("decisions", 6),
        ("reviews", 1),
    ]
    one, many = places
    writer = open_to_write(one)
    with closing(writer), pytest.raises(database_errors(), match="append-only"):
        writer.execute("UPDATE audit SET who = 'nobody'")
    for sql, offset in (
        ("UPDATE audit SET who = 'x' WHERE topic = 'decisions' AND \"offset\" = 3", 3),
        ("DELETE FROM audit WHERE topic = 'decisions' AND \"offset\" = 1", 2),
        ("DELETE FROM audit WHERE topic = 'decisions' AND \"offset\" = 5", 5),
        ("DELETE FROM audit WHERE topic = 'decisions'", 0),
    ):
        tampered(many, "CREATE TABLE kept AS SELECT * FROM audit", sql)
        with open_reader(many) as reader:
            assert reader is not None
            broken = audit.first_broken_chain(reader.db)
        assert broken is not None
        assert (broken.chain, broken.offset) == ("decisions", offset)
        tampered(
            many, "DELETE FROM audit", "INSERT INTO audit SELECT * FROM kept", "DROP TABLE kept"
        )


def _before(records: list[Record], topic: Topic) -> int:
    return sum(t.name == topic.name for t, _ in records)


def test_the_audit_forgets_old_decisions_only_and_stays_whole(place: ReadModelAt) -> None:
    made = [label_of(n, posted_ms=START_MS + n, rng=random.Random(n)) for n in range(40)]
    judged = [decision_on(m.label, Action.REVIEW) for m in made]
    records: list[Record] = [(DECISIONS, d) for d in judged]
    records += [(REVIEWS, review_on(d, "heron", Action.HIDE, START_MS + 100)) for d in judged]
    offsets: dict[str, int] = {}
    with Store(place, retention_audit=10) as store:
        store.apply(batch_of_outcomes(records, offsets))
        store.tidy(START_MS)
        with open_reader(place) as reader:
            assert reader is not None
            kept = {c.topic: (c.entries, c.first_offset) for c in audit.chains(reader.db)}
            assert kept == {"decisions": (10, 30), "reviews": (40, 0)}
            assert audit.first_broken_chain(reader.db) is None
        store.apply(batch_of_outcomes([(DECISIONS, judged[0])], offsets))
    with open_reader(place) as reader:
        assert reader is not None
        assert audit.first_broken_chain(reader.db) is None


def test_a_topic_made_anew_begins_another_chain(place: ReadModelAt) -> None:
    made = label_of(0, posted_ms=START_MS, rng=random.Random(1))
    record: list[Record] = [(DECISIONS, decision_on(made.label))]
    with Store(place) as store:
        store.apply(batch_of_outcomes(record))
        store.forget_offsets("decisions")
        store.apply(batch_of_outcomes(record))
    with open_reader(place) as reader:
        assert reader is not None
        assert [c.topic for c in audit.chains(reader.db)] == ["decisions", "decisions#2"]
        assert audit.first_broken_chain(reader.db) is None


def test_what_is_no_record_is_counted_and_audited(place: ReadModelAt) -> None:
    from dashboard.reading import read_records
    from tests.dashboard.outcome_feed import Read

    batch = Batch()
    for n, value in enumerate((b"{", b'{"schema":"tidegate.review.v1"}', b"[" * 5000)):
        read_records(batch, REVIEWS, [Read("reviews", 0, n, 5, value)])
    assert batch.outcomes.reviews == []
    assert batch.counters["unreadable_reviews"] == 3
    with Store(place) as store:
        store.apply(batch)
    with open_reader(place) as reader:
        assert reader is not None
        assert [e.what for e in audit.audit_entries(reader.db)] == ["unreadable"] * 3
