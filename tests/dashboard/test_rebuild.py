from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer

from dashboard.database import driver
from dashboard.desk import open_desk
from dashboard.process import projector_command, stop
from dashboard.queries.audit import chains, first_broken_chain
from dashboard.queries.scores import histogram
from dashboard.reader import open_reader
from dashboard.rebuild import rebuild
from dashboard.store import Store
from stream.database_url import PostgresUrl, ReadModelAt
from stream.kafka.client import kafka_python_config
from stream.outcomes import Action
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import DECISIONS, REVIEWS
from tests.conftest import RunTidegate
from tests.dashboard.conftest import NewPlace, batch_of
from tests.dashboard.label_feed import label_of, stream_of
from tests.dashboard.outcome_feed import batch_of_outcomes, decision_on, review_on
from tests.dashboard.test_projector import NewTopics, send, settings_for, until
from tests.dashboard.test_store import contents

START_MS = (int(time.time()) - 600) * 1000


def send_outcomes(kafka: KafkaSettings, first: int, n: int) -> None:
    """Labels, decisions and reviews on partition 0 of their topics."""
    made = list(stream_of(n, start_ms=START_MS, first=first, partitions=1))
    send(kafka, made)
    with closing(KafkaProducer(**kafka_python_config(kafka), linger_ms=20)) as producer:
        for record in made:
            decision = decision_on(record.label, Action.REVIEW, rules=[("rude", "1", "live")])
            producer.send(f"{kafka.topic_prefix}decisions", encode(decision), partition=0)
            review = review_on(decision, "heron", Action.HIDE, START_MS + first)
            producer.send(f"{kafka.topic_prefix}reviews", encode(review), partition=0)
        producer.flush()


@pytest.mark.parametrize("running", [False, True])
def test_a_rebuild_gives_the_same_read_model_and_chain(
    new_topics: NewTopics, tmp_path: Path, running: bool
) -> None:
    made_anew(new_topics(), tmp_path / "m.db", running=running)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.db", "m.db.lock"]


def test_a_rebuild_in_postgres_swaps_schemas_under_a_running_projector(
    embedded_topics: KafkaSettings, new_schema: NewPlace
) -> None:
    place = new_schema()
    assert isinstance(place, PostgresUrl)
    with open_desk(place):
        pass  # what people have in hand outlives the rebuild
    made_anew(embedded_topics, place, running=True)
    with closing(driver().connect(place)) as db:
        left = db.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE ? ORDER BY 1",
            (f"{place.schema}%",),
        ).fetchall()
    assert left == [(place.schema,), (f"{place.schema}_desk",)]


def made_anew(kafka: KafkaSettings, path: ReadModelAt, *, running: bool) -> None:
    """A read model and its rebuild are the same; the projector, if one runs, lets go."""
    settings = settings_for(kafka, path)
    send_outcomes(kafka, 0, 60)
    projector = projector_command(settings).start()
    told: list[tuple[int, int | None]] = []
    try:
        until(lambda r: r.counters().get("decisions") == 60 and len(chains(r.db)) == 2, path)
        before = contents(path)
        with open_reader(path) as reader:
            assert reader is not None
            hashes = [(c.topic, c.hash) for c in chains(reader.db)]
        if not running:
            stop(projector, 30)
        done = rebuild(settings, lambda *at: told.append(at), threading.Event())
        assert done is not None
        assert done.records >= 180
        if running:
            projector.wait(60)  # it lets go; `tidegate dashboard` starts it again
    finally:
        stop(projector, 30)
    assert told[-1][1] == 0
    assert contents(path) == before
    with open_reader(path) as reader:
        assert reader is not None
        assert [(c.topic, c.hash) for c in chains(reader.db)] == hashes
        assert first_broken_chain(reader.db) is None


def test_what_the_topics_forgot_is_taken_over(new_topics: NewTopics, tmp_path: Path) -> None:
    taken_over(new_topics(), tmp_path / "m.db")


def test_what_the_topics_forgot_is_taken_over_in_postgres(
    embedded_topics: KafkaSettings, new_schema: NewPlace
) -> None:
    taken_over(embedded_topics, new_schema())


def taken_over(kafka: KafkaSettings, path: ReadModelAt) -> None:
    """A rebuild keeps the audit and the counts that are older than the topics."""
    old = [
        label_of(n, posted_ms=START_MS - 40 * 86_400_000, rng=random.Random(n)) for n in range(9)
    ]
    with Store(path) as store:
        store.apply(batch_of(old))
        outcomes = [(DECISIONS, decision_on(m.label, Action.HIDE)) for m in old]
        store.apply(batch_of_outcomes(outcomes, {"decisions": 0}))
        store.forget_offsets("decisions")
    with open_reader(path) as reader:
        assert reader is not None
        gone = chains(reader.db)
    send_outcomes(kafka, 100, 20)
    assert rebuild(settings_for(kafka, path), lambda *_: None, threading.Event()) is not None
    with open_reader(path) as reader:
        assert reader is not None
        found = {c.topic: c for c in chains(reader.db)}
        assert found["decisions"] == gone[0]
        assert found["decisions#2"].entries == 20
        assert first_broken_chain(reader.db) is None
        old_posts = reader.db.execute(
            "SELECT sum(posts) FROM rollups WHERE width_s = 300 AND start_s < ?",
            (START_MS // 1000 - 86_400,),
        ).fetchone()[0]
        assert old_posts == 9
        assert histogram(reader.db, "toxicity.insult", 0, START_MS // 1000 + 10**6).posts == 29


def test_stopped_it_leaves_the_old_file(new_topics: NewTopics, tmp_path: Path) -> None:
    kafka = new_topics()
    path = tmp_path / "m.db"
    path.write_bytes(b"whatever it was")
    send_outcomes(kafka, 0, 5)
    halt = threading.Event()
    halt.set()
    assert rebuild(settings_for(kafka, path), lambda *_: None, halt) is None
    assert path.read_bytes() == b"whatever it was"
    assert rebuild(settings_for(kafka, path), lambda *_: None, threading.Event()) is not None
    with open_reader(path) as reader:
        assert reader is not None
        assert reader.counters()["decisions"] == 5


def test_the_audit_is_verified_listed_and_exported(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    path = tmp_path / "m.db"
    made = [label_of(n, posted_ms=START_MS + n, rng=random.Random(n)) for n in range(3)]
    judged = [decision_on(m.label, Action.REVIEW) for m in made]
    said = review_on(judged[0], "heron", Action.HIDE, START_MS + 100)
    with Store(path) as store:
        store.apply(batch_of_outcomes([*((DECISIONS, d) for d in judged), (REVIEWS, said)]))
    at = ("--database", str(path))
    whole = run_tidegate("audit", "verify", *at, "--json")
    assert whole.returncode == 0
    assert json.loads(whole.stdout)["entries"] == 4
    listed = run_tidegate("audit", "list", *at, "--people", "--json")
    assert [e["what"] for e in json.loads(listed.stdout)] == ["review.decide"]
    lines = run_tidegate("audit", "export", *at, "--who", "heron").stdout.splitlines()
    assert [json.loads(line)["on"] for line in lines] == [made[0].label.post_id]
    table = run_tidegate("audit", "export", *at, "--format", "csv").stdout.splitlines()
    assert len(table) == 5
    assert run_tidegate("audit", "list", *at, "--since", "yesterday").returncode == 2
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER audit_is_append_only")
        db.execute("UPDATE audit SET detail = '{}' WHERE topic = 'decisions' AND \"offset\" = 1")
        db.commit()
    broken = run_tidegate("audit", "verify", *at)
    assert broken.returncode == 1
    assert "decisions[0]@1" in broken.stderr


def test_users_from_the_command_line(run_tidegate: RunTidegate) -> None:
    short = run_tidegate("dashboard", "add-user", "ann", "--password-stdin", stdin="short\n")
    assert short.returncode == 2
    added = run_tidegate(
        "dashboard",
        "add-user",
        "ann",
        "--role",
        "admin",
        "--password-stdin",
        stdin="three short words\n",
    )
    assert added.returncode == 0, added.stderr
    listed = json.loads(run_tidegate("dashboard", "users", "--json").stdout)
    assert [(user["name"], user["role"]) for user in listed] == [("ann", "admin")]
    assert run_tidegate("dashboard", "remove-user", "ann").returncode == 0
    assert run_tidegate("dashboard", "remove-user", "ann").returncode == 2
