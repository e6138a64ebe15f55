"""A post from the bytes of a record, or the reason why they are none.

A record that does not decode is never guessed at: `decode_post` raises `PostError` with a reason
code and a sentence. Fields that we do not know survive in `meta`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from stream.errors import PostError
from stream.records import (
    MAX_DEPTH,
    MAX_ID_CHARS,
    MAX_TEXT_CHARS,
    POST_SCHEMA,
    Author,
    DeadLetterReason,
    Post,
)


class _KnownPost(
    Post, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A post with no fields but ours: the fast way in, one pass over the bytes."""


class RawPost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A post whose bytes can stand in its label as they are: checked as `Post`, half the cost.

    Nothing is made for what is not there, and null is not taken where a `Post` has a list.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARS)]
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
    schema: Literal["tidegate.post.v1"] | UnsetType = UNSET
    op: Literal["create", "update"] = "create"
    source: str | None = None
    author: str | Author | None = None
    created_at: str | None = None
    url: str | None = None
    lang: str | None = None
    langs: list[str] | UnsetType = UNSET
    reply_to: str | None = None
    thread_id: str | None = None
    tags: list[str] | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET
    links: list[str] | UnsetType = UNSET
    rev: str | None = None
    meta: dict[str, Any] | UnsetType = UNSET


_known_post = msgspec.json.Decoder(_KnownPost)
_raw_post = msgspec.json.Decoder(RawPost).decode
_anything = msgspec.json.Decoder()
_FIELDS = frozenset(Post.__struct_fields__)


def decode_post(value: bytes | None, *, default_id: str | None = None) -> Post:
    """The post in a record's value; unknown fields are moved into `meta`.

    Args:
        value: the bytes, UTF-8 JSON.
        default_id: the id of a post that brings none; without it such a record is refused.

    Raises:
        PostError: it is not a post; `reason` is a `DeadLetterReason`.
    """
    if not value:
        raise PostError(DeadLetterReason.EMPTY, "the record has no value")
    try:
        post: Post = _known_post.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Either a field that we do not know or a real mistake; the slow way tells which.
        return post_from_object(_decode_object(value), default_id=default_id)
    if not post.id and default_id:
        post = msgspec.structs.replace(post, id=default_id)
    return _checked(post)


def read_post(value: bytes | None) -> Post | RawPost:
    """As `decode_post`, but a post in its plainest form comes as a `RawPost`.

    A `RawPost` is a create or an update with our fields only, on one line, with no more text than
    a label carries: `value` itself can be embedded in its label.

    Raises:
        PostError: as `decode_post`.
    """
    try:
        post: RawPost = _raw_post(value)  # type: ignore[arg-type]
    # A TypeError: there is no value.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        return decode_post(value)
    if b"\n" in value or (post.meta is not UNSET and _deeper_than(post.meta, MAX_DEPTH)):  # type: ignore[operator]
        return decode_post(value)
    return post


def post_from_object(data: dict[str, Any], *, default_id: str | None = None) -> Post:
    """A post from decoded JSON, a CSV row or the like: numbers as ids, unknown fields to `meta`.

    Raises:
        PostError: it is not a post; `reason` is a `DeadLetterReason`.
    """
    schema = data.get("schema", POST_SCHEMA)
    if schema != POST_SCHEMA:
        raise PostError(
            DeadLetterReason.UNKNOWN_SCHEMA, f"`schema` is {_shown(schema)}, not `{POST_SCHEMA}`"
        )
    known = {name: value for name, value in data.items() if name in _FIELDS}
    unknown = {name: value for name, value in data.items() if name not in _FIELDS}
    if type(known.get("id")) is int:
        known["id"] = str(known["id"])
    if known.get("id") in (None, ""):
        known["id"] = default_id
    if known["id"] is None:
        raise PostError(DeadLetterReason.NO_ID, "the post has no `id`")
    if known.get("text") is None and known.get("op") != "delete":
        raise PostError(DeadLetterReason.NO_TEXT, "`text` is missing or null")
    for name in [name for name, value in known.items() if value is None]:
        del known[name]  # null is how many producers write "not there"
    try:
        post = msgspec.convert(known, Post)
    except msgspec.ValidationError as exc:
        raise PostError(DeadLetterReason.WRONG_TYPE, _explained(exc)) from exc
    if unknown:
        post = msgspec.structs.replace(post, meta={**unknown, **post.meta})
    return _checked(post)


def _decode_object(value: bytes) -> dict[str, Any]:
    value = value.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark some editors write
    try:
        value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise PostError(
            DeadLetterReason.NOT_UTF8,
            f"byte {exc.start} (0x{value[exc.start]:02x}) is not UTF-8: the text is in another encoding",
        ) from exc
    try:
        data = _anything.decode(value)
    except RecursionError as exc:
        raise PostError(DeadLetterReason.TOO_DEEP, "the JSON is nested too deeply") from exc
    except msgspec.DecodeError as exc:
        if lone := _lone_surrogate(value):
            raise PostError(
                DeadLetterReason.LONE_SURROGATE,
                f"`{lone}` is half of a surrogate pair, not a character",
            ) from exc
        raise PostError(DeadLetterReason.NOT_JSON, f"not JSON: {_explained(exc)}") from exc
    if not isinstance(data, dict):
        raise PostError(
            DeadLetterReason.NOT_AN_OBJECT,
            f"a JSON {_json_type(data)}, not an object with a `text`",
        )
    return data


def _checked(post: Post) -> Post:
    if not post.id:
        raise PostError(DeadLetterReason.NO_ID, "the post has no `id`")
    if len(post.id) > MAX_ID_CHARS:
        raise PostError(
            DeadLetterReason.TOO_LARGE,
            f"`id` has {len(post.id)} characters, more than {MAX_ID_CHARS}",
        )
    if post.text is None and post.op != "delete":
        raise PostError(DeadLetterReason.NO_TEXT, "`text` is missing or null")
    if post.meta and _deeper_than(post.meta, MAX_DEPTH):
        raise PostError(
            DeadLetterReason.TOO_DEEP, f"the JSON is nested more than {MAX_DEPTH} levels deep"
        )
    return post


def _deeper_than(value: object, levels: int) -> bool:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    if inner is None:
        return False
    return levels == 0 or any(_deeper_than(item, levels - 1) for item in inner)


#: The decoder's names of types as a person says them.
_KINDS = {
    "str": "a string",
    "int": "a number",
    "float": "a fraction",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _explained(exc: Exception) -> str:
    """The decoder's message in our words: "`text` should be a string, not a number"."""
    message = str(exc).removeprefix("JSON is malformed: ")
    message = re.sub(r" - at `\$\.?(.*?)`$", lambda m: f" in `{m[1]}`" if m[1] else "", message)
    wrong = re.fullmatch(r"Expected `(.*?)`, got `(.*?)` in `(.*)`", message)
    if wrong is None:
        return message[:1].lower() + message[1:]
    wanted = [_KINDS.get(kind, kind) for kind in wrong[1].split(" | ") if kind != "null"]
    return f"`{wrong[3]}` should be {' or '.join(wanted)}, not {_KINDS.get(wrong[2], wrong[2])}"


def _lone_surrogate(value: bytes) -> str | None:
    """The first escaped surrogate without its other half, if JSON is otherwise in order."""
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return None
    pairs_removed = re.sub(rb"(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", b"", value)
    lone = re.search(rb"(?i)\\ud[89a-f][0-9a-f]{2}", pairs_removed)
    return lone[0].decode() if lone else None


def _json_type(data: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(data), "null")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
