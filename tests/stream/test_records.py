from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.errors import PostError
from stream.post_decoding import decode_post, post_from_object
from stream.records import (
    MAX_DEPTH,
    MAX_ID_CHARS,
    MAX_ORIGINAL_BYTES,
    Author,
    DeadLetterReason,
    Origin,
    Post,
    dead_letter_of,
    decode_dead_letter,
    encode,
    label_id,
    rfc3339,
)

_ORIGIN = Origin(topic="posts", partition=3, offset=14, timestamp_ms=1_795_312_800_123)
#: Every character but surrogates, which no UTF-8 holds.
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)
_field = st.sampled_from(Post.__struct_fields__)
_unknown = st.dictionaries(
    _text.filter(lambda name: name not in Post.__struct_fields__),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _text | st.lists(_text, max_size=3),
    max_size=4,
)
_posts = st.builds(
    Post,
    id=_text.filter(bool),
    text=_text,
    op=st.sampled_from(["create", "update"]),
    source=st.none() | _text,
    author=st.none() | _text | st.builds(Author, id=_text, followers=st.none() | st.integers(0, 9)),
    langs=st.lists(_text, max_size=3),
    tags=st.lists(_text, max_size=3),
    rev=st.none() | _text,
    meta=_unknown,
)


def _reason(value: bytes | None) -> str:
    with pytest.raises(PostError) as raised:
        decode_post(value)
    assert raised.value.message
    return str(raised.value.reason)


def _post_or_error(value: bytes) -> Post | PostError:
    try:
        return decode_post(value)
    except PostError as error:
        return error


def _post_or_reason(value: bytes) -> None:
    """Either a post that can be sent on, or a `PostError` with a known reason."""
    found = _post_or_error(value)
    if isinstance(found, PostError):
        assert found.reason in set(DeadLetterReason)
        letter = dead_letter_of(found, value, at_ms=0, origin=_ORIGIN)
        assert decode_dead_letter(encode(letter)) == letter
        return
    assert found.id
    assert found.text is not None or found.op == "delete"
    assert encode(decode_post(encode(found))) == encode(found)
    assert isinstance(found.key, bytes)


@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf{}")
@example(b'"\\ud800"')
@example(b"{" * 5000)
@example(b"[" * 100_000)
@example(b'{"a":' * 3000 + b"1" + b"}" * 3000)
@example(b'{"id": ' + b"9" * 5000 + b', "text": "x"}')
@example(b'{"id": "1", "text": "x", "n": ' + b"9" * 5000 + b"}")
@example(b'{"id": "1", "text": "x", "n": 1e999}')
@example(b'{"id": "1", "text": "x", "n": 123456789012345678901234567890}')
@example(b'{"id": 123456789012345678901234567890, "text": "x"}')
@example(b'{"schema": ' + b"[" * 900 + b"]" * 900 + b"}")
def test_any_bytes_are_a_post_or_a_post_error(value: bytes) -> None:
    _post_or_reason(value)


@given(_json)
def test_any_json_is_a_post_or_a_post_error(value: Any) -> None:
    _post_or_reason(json.dumps(value).encode())


@given(st.dictionaries(_field, _json, max_size=6), _json, _json)
def test_any_object_with_our_fields_is_a_post_or_a_post_error(
    fields: dict[str, Any], post_id: Any, text: Any
) -> None:
    _post_or_reason(json.dumps({"id": post_id, "text": text, **fields}).encode())
    _post_or_reason(json.dumps({"id": "1", "text": "x", **fields}).encode())


@given(_posts)
def test_what_is_sent_is_what_is_read(post: Post) -> None:
    assert msgspec.to_builtins(decode_post(encode(post))) == msgspec.to_builtins(post)


@given(_posts, _unknown)
def test_unknown_fields_survive_in_meta(post: Post, unknown: dict[str, Any]) -> None:
    value = {**msgspec.to_builtins(post), **unknown}
    # What the producer put into `meta` itself wins over a field of the same name beside it.
    expected = {**unknown, **post.meta}
    assert decode_post(json.dumps(value).encode()).meta == expected


@given(st.binary(max_size=300), st.none() | st.binary(max_size=20))
def test_a_dead_letter_keeps_every_byte(value: bytes, key: bytes | None) -> None:
    error = PostError(DeadLetterReason.NOT_JSON, "not JSON")
    letter = dead_letter_of(error, value, at_ms=0, origin=_ORIGIN, key=key)
    again = decode_dead_letter(encode(letter))
    assert (again.original, again.key, again.original_bytes) == (value, key, len(value))
    assert not again.original_truncated


_GOOD = b'{"id": "1", "text": "a calm sea"'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"   ", "not-json"),
        (b"not json", "not-json"),
        (_GOOD, "not-json"),
        (_GOOD + b"} and more", "not-json"),
        (_GOOD + b", 'tags': []}", "not-json"),
        (b'{"id": "1", "text": "a\x01b"}', "not-json"),
        (b'{"id": "1", "text": NaN}', "not-json"),
        (b"[]", "not-an-object"),
        (b"null", "not-an-object"),
        (b"17", "not-an-object"),
        (b'"text"', "not-an-object"),
        ('{"id": "1", "text": "Grüße"}'.encode("latin-1"), "not-utf8"),
        ('{"id": "1", "text": "hello"}'.encode("utf-16"), "not-utf8"),
        (b'{"id": "1", "text": "\\ud83d"}', "lone-surrogate"),
        (b'{"id": "1", "text": "\\ude00\\ud83d"}', "lone-surrogate"),
        (b'{"id": "1", "text": "\xed\xa0\xbd"}', "not-utf8"),
        (b"{}", "no-id"),
        (b'{"text": "x"}', "no-id"),
        (b'{"id": null, "text": "x"}', "no-id"),
        (b'{"id": "", "text": "x"}', "no-id"),
        (b'{"id": "1"}', "no-text"),
        (b'{"id": "1", "text": null}', "no-text"),
        (b'{"id": "1", "text": null, "extra": 1}', "no-text"),
        (b'{"id": "1", "text": 7}', "wrong-type"),
        (b'{"id": "1", "text": ["x"]}', "wrong-type"),
        (b'{"id": true, "text": "x"}', "wrong-type"),
        (b'{"id": 1.5, "text": "x"}', "wrong-type"),
        (b'{"id": ["1"], "text": "x"}', "wrong-type"),
        (b'{"id": "1", "text": "x", "op": "shout"}', "wrong-type"),
        (b'{"id": "1", "text": "x", "tags": "tea"}', "wrong-type"),
        (b'{"id": "1", "text": "x", "author": {"handle": "ann"}}', "wrong-type"),
        (b'{"id": "1", "text": "x", "meta": []}', "wrong-type"),
        (b'{"id": "1", "text": "x", "schema": "tidegate.post.v9"}', "unknown-schema"),
        (b'{"id": "1", "text": "x", "schema": 1}', "unknown-schema"),
        (b'{"id": "' + b"x" * (MAX_ID_CHARS + 1) + b'", "text": "x"}', "too-large"),
        (_GOOD + b', "deep": ' + b"[" * 100 + b"]" * 100 + b"}", "too-deep"),
        (_GOOD + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too-deep"),
    ],
)
def test_what_cannot_be_a_post_has_its_reason(value: bytes | None, reason: str) -> None:
    assert _reason(value) == reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (_GOOD + b"}", "a calm sea"),
        (b"\xef\xbb\xbf" + _GOOD + b"}", "a calm sea"),
        (b'\n {"id": 7, "text": ""}\r\n', ""),
        (b'{"id": "1", "text": "\\ud83d\\ude00"}', "😀"),
        (b'{"id": "1", "text": "a\\u0000b"}', "a\0b"),
        (b'{"id": "1", "text": "x", "lang": null, "tags": null, "meta": null}', "x"),
        ('{"id": "1", "text": "👩‍👩‍👧 🏳️‍🌈 e\u0301 \u202eright"}'.encode(), "👩‍👩‍👧 🏳️‍🌈 e\u0301 \u202eright"),
        (b'{"id": "1", "text": "x", "id": "2", "text": "y"}', "y"),
    ],
)  # fmt: skip
def test_odd_posts_that_are_posts(value: bytes, text: str) -> None:
    assert decode_post(value).text == text


def test_a_megabyte_of_text_is_a_post() -> None:
    text = "wave " * 200_000
    assert decode_post(encode(Post(id="1", text=text))).text == text


def test_a_number_is_an_id_and_a_delete_needs_no_text() -> None:
    assert decode_post(b'{"id": 42, "text": "x"}').id == "42"
    assert decode_post(b'{"id": "1", "op": "delete"}').text is None


def test_as_deep_as_allowed() -> None:
    inner = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert decode_post(_GOOD + b', "deep": ' + inner + b"}").meta["deep"]


def test_the_default_id_is_for_posts_without_one_only() -> None:
    assert decode_post(b'{"text": "x"}', default_id="f:1").id == "f:1"
    assert decode_post(b'{"id": "", "text": "x"}', default_id="f:1").id == "f:1"
    assert decode_post(b'{"id": "7", "text": "x"}', default_id="f:1").id == "7"
    assert post_from_object({"id": 0, "text": "x"}, default_id="f:1").id == "0"


def test_the_key_is_the_author_or_the_id() -> None:
    assert Post(id="1", text="x").key == b"1"
    assert Post(id="1", text="x", author="ann").key == b"ann"
    assert Post(id="1", text="x", author=Author(id="bob", handle="b")).key == b"bob"
    assert Post(id="1", text="x", author="").key == b"1"


def test_an_explanation_is_in_the_readers_words() -> None:
    with pytest.raises(PostError) as raised:
        decode_post(b'{"id": "1", "text": 7}')
    assert raised.value.message == "`text` should be a string, not a number"


def test_an_original_that_is_too_large_is_cut_and_says_so() -> None:
    value = b"x" * (MAX_ORIGINAL_BYTES + 1)
    error = PostError(DeadLetterReason.NOT_JSON, "not JSON")
    letter = dead_letter_of(error, value, at_ms=0, source_input="posts.jsonl:3")
    assert letter.original_truncated
    assert (len(letter.original), letter.original_bytes) == (MAX_ORIGINAL_BYTES, len(value))
    assert letter.dead_letter_id == "posts.jsonl:3"
    # The whole record fits into a broker's default message.
    assert len(encode(letter)) < 1_000_000
    assert base64.b64decode(json.loads(encode(letter))["original"]) == letter.original


def test_a_label_has_the_same_id_each_time_it_is_made() -> None:
    assert label_id("1", _ORIGIN) == label_id("1", _ORIGIN) == "1@posts/3/14"
    assert label_id("1", _ORIGIN, "r2") != label_id("1", _ORIGIN)
    assert label_id("1", None) == "1@offline"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_312_800_007, "2026-11-22T02:00:00.007Z"),
        (999, "1970-01-01T00:00:00.999Z"),
    ],
)
def test_times_are_utc_to_the_millisecond(ms: int, text: str) -> None:
    assert rfc3339(ms) == text
