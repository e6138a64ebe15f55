"""The label that the worker's fast way writes is the label that the plain way makes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.null import NullScorer
from stream.errors import PostError
from stream.labelling import LabelEncoder, label_of, model_refs
from stream.post_decoding import RawPost, decode_post, read_post
from stream.records import MAX_TEXT_CHARS, Origin, Post, decode_label, encode

ORIGIN = Origin(topic="posts", partition=3, offset=77, timestamp_ms=1_760_000_000_123)
NOW_MS = 1_760_000_000_555
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
LISTS = st.lists(WORDS, max_size=3)
POSTS = st.fixed_dictionaries(
    {"id": NAMES, "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=80)},
    optional={
        "schema": st.just("tidegate.post.v1"),
        "op": st.sampled_from(["create", "update"]),
        "source": WORDS,
        "author": st.one_of(WORDS, st.fixed_dictionaries({"id": WORDS, "followers": st.integers(0, 9)})),
        "created_at": st.none() | WORDS,
        "langs": LISTS,
        "tags": LISTS,
        "mentions": LISTS,
        "links": LISTS,
        "rev": WORDS,
        "meta": st.dictionaries(WORDS, st.none() | st.integers(-9, 9) | LISTS, max_size=2),
    },
)  # fmt: skip


def _both_ways(value: bytes) -> tuple[bytes, bytes]:
    scorer = NullScorer()
    refs = model_refs(scorer.models)
    raw, post = read_post(value), decode_post(value)
    assert isinstance(raw, RawPost)
    (scores,) = scorer.score([post.text or ""])
    write = LabelEncoder(refs).writer(ORIGIN.topic, ORIGIN.partition, NOW_MS)
    fast = write(raw, value, scores, ORIGIN.offset, ORIGIN.timestamp_ms)
    return fast, encode(label_of(post, scores, refs, labelled_at_ms=NOW_MS, origin=ORIGIN))


@given(POSTS, st.booleans())
def test_the_fast_label_is_the_plain_one(post: dict[str, Any], spaces: bool) -> None:
    value = json.dumps(post, ensure_ascii=False).encode() if spaces else msgspec.json.encode(post)
    fast, plain = _both_ways(value)
    assert decode_label(fast) == decode_label(plain)


def test_a_post_without_defaults_gives_the_same_bytes() -> None:
    fast, plain = _both_ways(encode(Post(id="p1", text="a calm day", langs=["en"])))
    assert fast == plain


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":"1","text":"a","op":"delete"}',
        b'{"id":"1","text":null,"op":"delete"}',
        b'{"id":"1",\n"text":"on two lines"}',
        b'{"id":1,"text":"a number for an id"}',
        b'{"id":"1","text":"a field of theirs","mood":"fine"}',
        b'{"id":"1","text":"null for a list","tags":null}',
        json.dumps({"id": "1", "text": "x" * (MAX_TEXT_CHARS + 1)}).encode(),
    ],
)
def test_what_is_not_plain_is_read_the_long_way(value: bytes) -> None:
    assert read_post(value) == decode_post(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b'{"text":"no id"}',
        b'{"id":"","text":"an empty id"}',
        b'{"id":"1","text":7}',
        b'{"id":"1","text":"\\ud800"}',
        b'{"id":"1","text":"\xff"}',
        json.dumps({"id": "x" * 600, "text": "a long id"}).encode(),
        b'{"id":"1","text":"deep","meta":{"a":' + b"[" * 70 + b"]" * 70 + b"}}",
    ],
)
def test_both_ways_refuse_the_same(value: bytes | None) -> None:
    with pytest.raises(PostError) as long_way:
        decode_post(value)
    with pytest.raises(PostError) as short_way:
        read_post(value)
    assert str(short_way.value) == str(long_way.value)
    assert short_way.value.reason == long_way.value.reason
