"""Deliveries, the configuration and the replay of a dead letter on the System page."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard import page
from dashboard.errors import NotAllowedError
from dashboard.people import Person, Role
from dashboard.system_more import replay
from stream.errors import DeliveryError
from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from stream.records import DEAD_LETTER_SCHEMA, DeadLetter, Origin, encode, rfc3339
from stream.topics import DEAD_LETTERS, POSTS
from tests.conftest import kafka_settings
from tests.dashboard.history_feed import keep_history

APP = str(Path(dashboard.__file__).with_name("app.py"))
MODERATOR = Person("ines", Role.MODERATOR, "heron")


def test_deliveries_and_settings_are_shown_and_secrets_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "read-model.db"
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    monkeypatch.setenv("TIDEGATE_KAFKA__USERNAME", "ines")
    monkeypatch.setenv("TIDEGATE_KAFKA__PASSWORD", "hunter2-hunter2")
    monkeypatch.setenv("TIDEGATE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    page.settings.clear()
    keep_history(path)
    test = AppTest.from_file(APP, default_timeout=60).run()
    test.switch_page("app_pages/system.py").run()
    assert not test.exception, test.exception
    tables = [frame.value for frame in test.dataframe]
    log = next(table for table in tables if "Attempt" in table)
    assert list(log["State"]) == ["✓ delivered", "↻ retrying"] * 3
    held = next(table for table in tables if "Setting" in table)
    values = dict(zip(held["Setting"], held["Value"], strict=True))
    assert values["dashboard.database"] == str(path)
    assert "*" in values["kafka.password"]
    assert "hunter2" not in str([table.to_string() for table in tables])
    page.settings.clear()


def test_a_dead_letter_is_sent_back_to_where_it_came_from(embedded_broker: EmbeddedBroker) -> None:
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    kafka = kafka_settings(embedded_broker)
    with open_admin(kafka) as admin:
        admin.create_missing()
    posts = POSTS.full_name(kafka.topic_prefix)
    now_ms = time.time_ns() // 1_000_000
    letter = DeadLetter(
        schema=DEAD_LETTER_SCHEMA,
        dead_letter_id=f"{posts}/0/{now_ms}",
        reason="not-json",
        error="not JSON",
        original=b'{"id": "whole again"}',
        original_bytes=21,
        at=rfc3339(now_ms),
        origin=Origin(topic=posts, partition=0, offset=7, timestamp_ms=now_ms),
    )
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, enable_idempotence=False)
    producer.send(DEAD_LETTERS.full_name(kafka.topic_prefix), encode(letter)).get(20)
    producer.close()
    with pytest.raises(NotAllowedError):
        replay(Person("teo", Role.ANALYST, "crane"), kafka, letter.dead_letter_id)
    with pytest.raises(DeliveryError, match="not on the topic"):
        replay(MODERATOR, kafka, "never/0/1")
    replay(MODERATOR, kafka, letter.dead_letter_id)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, consumer_timeout_ms=20_000
    )
    consumer.assign([TopicPartition(posts, 0)])
    consumer.seek_to_beginning()
    found = next(record for record in consumer if record.value == letter.original)
    consumer.close()
    assert ("tidegate-attempt", str(letter.attempt + 1).encode()) in found.headers
