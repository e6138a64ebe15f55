"""The records on the topics: versioned, decoded strictly, the same for every process.

How a post is read, and what is said of one that cannot be, stands in `stream.post_decoding`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

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


encode: Final = msgspec.json.Encoder().encode
decode_label: Final = msgspec.json.Decoder(Label).decode
decode_dead_letter: Final = msgspec.json.Decoder(DeadLetter).decode


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
