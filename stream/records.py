"""The records on the topics: versioned, decoded strictly, the same for every process.

A record that does not decode is never guessed at: `decode_post` raises `PostError` with a reason
code and a sentence. Fields that we do not know survive in `meta`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from stream.errors import PostError

POST_SCHEMA: Final = "tidegate.post.v1"
LABEL_SCHEMA: Final = "tidegate.label.v1"
DEAD_LETTER_SCHEMA: Final = "tidegate.dead-letter.v1"

#: An id longer than this is an attack or a mistake; the sum of key and headers stays small.
MAX_ID_CHARS: Final = 512
#: A label carries the post's text for those downstream, but no more of it than anyone reads.
MAX_TEXT_CHARS: Final = 10_000
#: More of an unreadable record than this is not kept: it must fit into a broker's default message.
MAX_ORIGINAL_BYTES: Final = 256 * 1024
#: Every encoder and decoder downstream recurses; the same bound for all, far below their own.
MAX_DEPTH: Final = 64

Op = Literal["create", "update", "delete"]


class DeadLetterReason(StrEnum):
    """Why a record cannot be a post. Part of the wire format: never renamed."""

    NOT_JSON = "not-json"
    NOT_UTF8 = "not-utf8"
    LONE_SURROGATE = "lone-surrogate"
    NOT_AN_OBJECT = "not-an-object"
    NO_ID = "no-id"
    NO_TEXT = "no-text"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_SCHEMA = "unknown-schema"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    EMPTY = "empty"
    BAD_ROW = "bad-row"
    SCORING_FAILED = "scoring-failed"


# `gc=False` below: records come out of JSON and cannot form cycles, and there are many of them.
class Author(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who wrote a post, as much of it as the source tells."""

    id: str
    handle: str | None = None
    created_at: str | None = None
    followers: int | None = None
    bot: bool | None = None


class Post(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A post, an edit of one, or the deletion of one.

    `text` may be empty (a picture without words); only a delete may leave it out. `created_at` is
    what the source claims, RFC 3339; it is shown, never trusted as event time.
    """

    id: str
    text: str | None = None
    schema: Literal["tidegate.post.v1"] = POST_SCHEMA
    op: Op = "create"
    source: str | None = None
    author: str | Author | None = None
    created_at: str | None = None
    url: str | None = None
    lang: str | None = None
    langs: list[str] = msgspec.field(default_factory=list)
    reply_to: str | None = None
    thread_id: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    mentions: list[str] = msgspec.field(default_factory=list)
    links: list[str] = msgspec.field(default_factory=list)
    rev: str | None = None
    meta: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def author_id(self) -> str | None:
        """The author's id, whichever form the source sent."""
        return self.author.id if isinstance(self.author, Author) else self.author

    @property
    def key(self) -> bytes:
        """The record's key: the author, so that one author's posts stay in order, or the id."""
        return (self.author_id or self.id).encode("utf-8", "surrogatepass")


class TaskLabel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one task says of a post; `score` is the probability of `label`.

    For toxicity, which has several labels at once, `label` is the highest one at or over its
    threshold, or `none`; `score` is then the highest score of all. `scores` holds every label of
    sentiment and toxicity, and of language the three most probable. `unsupported` is set where
    the task was not measured on the post's language: the scores are there, and not to be
    trusted silently.
    """

    label: str
    score: float
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    unsupported: bool = False


class ModelRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which model, in which version, spoke."""

    id: str
    version: str


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a record was read: its place orders updates of one post, and names duplicates."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Every task's answer for one post; for a delete, `retracted` and no labels.

    `label_id` depends on the post's id, its revision and its place only: a post labelled twice
    after a crash gives the same id, and readers upsert. `posted_at` is the broker's timestamp of
    the post, `labelled_at` is when the label was made; both RFC 3339 in UTC.
    """

    schema: Literal["tidegate.label.v1"]
    label_id: str
    post_id: str
    labels: dict[str, TaskLabel]
    models: dict[str, ModelRef]
    labelled_at: str
    posted_at: str | None = None
    origin: Origin | None = None
    post: Post | None = None
    retracted: bool = False
    truncated: bool = False
    cleaned: bool = False


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A record that could not be handled, with everything needed to mend and replay it.

    `original` is the record's value, base64 in JSON; `original_bytes` its full size, larger than
    `original` where `original_truncated` says so. `input` is the file and line, where known.
    """

    schema: Literal["tidegate.dead-letter.v1"]
    dead_letter_id: str
    reason: str
    error: str
    original: bytes
    original_bytes: int
    at: str
    original_truncated: bool = False
    origin: Origin | None = None
    key: bytes | None = None
    input: str | None = None
    post_id: str | None = None
    attempt: int = 1


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
encode: Final = msgspec.json.Encoder().encode
decode_label: Final = msgspec.json.Decoder(Label).decode
decode_dead_letter: Final = msgspec.json.Decoder(DeadLetter).decode


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


# Kept: a batch has one time of labelling, and posts of a flood share their millisecond.
@lru_cache(maxsize=4096)
def rfc3339(timestamp_ms: int) -> str:
    """Milliseconds since the epoch as `2026-11-22T10:00:00.123Z`."""
    seconds, ms = divmod(timestamp_ms, 1000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=1024)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def label_id(post_id: str, origin: Origin | None, rev: str | None = None) -> str:
    """The deterministic id of a label: the same post at the same place gives the same id."""
    place = f"{origin.topic}/{origin.partition}/{origin.offset}" if origin else "offline"
    return f"{post_id}@{place}" if rev is None else f"{post_id}@{rev}@{place}"


def dead_letter_of(
    error: PostError,
    value: bytes | None,
    *,
    at_ms: int,
    origin: Origin | None = None,
    key: bytes | None = None,
    source_input: str | None = None,
    post_id: str | None = None,
    attempt: int = 1,
) -> DeadLetter:
    """The dead letter of a record, its original bytes kept up to `MAX_ORIGINAL_BYTES`."""
    value = value or b""
    place = f"{origin.topic}/{origin.partition}/{origin.offset}" if origin else source_input or "?"
    return DeadLetter(
        schema=DEAD_LETTER_SCHEMA,
        dead_letter_id=place,
        reason=str(error.reason),
        error=error.message,
        original=value[:MAX_ORIGINAL_BYTES],
        original_bytes=len(value),
        original_truncated=len(value) > MAX_ORIGINAL_BYTES,
        at=rfc3339(at_ms),
        origin=origin,
        key=key,
        input=source_input,
        post_id=post_id,
        attempt=attempt,
    )
