from __future__ import annotations

import re

import msgspec
import pytest

from stream.records import DeadLetter, Label, Post
from stream.topics import CATALOGUE, DEAD_LETTERS, LABELS, POSTS, Topic


def test_every_topic_is_named_once_and_as_kafka_allows() -> None:
    names = [topic.name for topic in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in names)


def test_the_records_of_the_design() -> None:
    assert [(t.name, t.record) for t in CATALOGUE[:3]] == [
        ("posts", Post),
        ("labels", Label),
        ("dead-letters", DeadLetter),
    ]


@pytest.mark.parametrize("topic", CATALOGUE, ids=lambda topic: topic.name)
def test_a_topic_says_what_it_is(topic: Topic) -> None:
    assert topic.description
    assert topic.key
    assert any(field.name == "schema" for field in msgspec.structs.fields(topic.record))
    assert topic.full_name("eu.") == f"eu.{topic.name}"
    assert topic.full_name("") == topic.name


def test_settings_are_in_kafkas_words() -> None:
    assert POSTS.config() == {"cleanup.policy": "delete", "retention.ms": "604800000"}
    forever = Topic("x", "k", Post, "d", None, cleanup="compact")
    assert forever.config() == {"cleanup.policy": "compact", "retention.ms": "-1"}


def test_a_post_its_label_and_its_dead_letter_share_a_partition_number() -> None:
    assert POSTS.partitioned
    assert LABELS.partitioned
    assert DEAD_LETTERS.partitioned


def test_dead_letters_outlive_their_posts() -> None:
    assert DEAD_LETTERS.retention_s is not None
    assert POSTS.retention_s is not None
    assert DEAD_LETTERS.retention_s > POSTS.retention_s
