"""From a record on a topic to a row of the read model: pure, no database and no broker.

Invariant: which of a post's label records counts depends on the records alone, never on the order
they are read in. The newest place of the post wins: its timestamp first, because a delete may
travel on another partition than the post it deletes, then partition and offset. Two records of
the same place (a worker that died before its commit) are one answer, and the first made counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from stream.records import (
    MAX_ID_CHARS,
    Author,
    DeadLetter,
    Label,
    TaskLabel,
    decode_dead_letter,
    decode_label,
)
from stream.times import timestamp_ms

#: Widths of the rollup buckets in seconds: the fine ones for the last hours, the others kept; each
#: is a multiple of the one before it. Of weeks the hours and days are read, not the five minutes.
FINE_S: Final = 10
COARSE_S: Final = 300
HOUR_S: Final = 3600
DAY_S: Final = 86_400
WIDTHS_S: Final = (FINE_S, COARSE_S, HOUR_S, DAY_S)

#: Scores are counted in bins a hundredth wide, by the hour for some days, by the day for good.
SCORE_BINS: Final = 100
SCORE_HOUR_S: Final = 3600
SCORE_DAY_S: Final = 86_400

#: Latency bins are a twentieth of a decade wide: a percentile read from them is within 12 %.
_BINS_PER_DECADE: Final = 20

_MAX_NAME_CHARS: Final = 120
_MAX_TOPIC_CHARS: Final = 249  # no broker has longer names
_MAX_PREVIEW_BYTES: Final = 2048
MAX_INT: Final = 2**62
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,34}")

#: A score of 1 belongs to the last bin.
_TO_LAST_BIN: Final = bytes(min(bin_, SCORE_BINS - 1) for bin_ in range(256))

_canonical = msgspec.json.Encoder(order="sorted").encode


class Place(NamedTuple):
    """Where a record itself was read."""

    partition: int
    offset: int
    timestamp_ms: int


class PostRow(NamedTuple):
    """One row of `posts`, in the order of its columns, then the record as it was.

    Empty strings stand for a task that did not answer; a retracted post keeps its place and
    nothing else.
    """

    post_id: str
    origin_ms: int
    origin_partition: int
    origin_offset: int
    posted_ms: int
    labelled_ms: int
    retracted: bool
    text: str
    source: str
    author: str
    language: str
    language_score: float
    sentiment: str
    sentiment_score: float
    toxicity: str
    toxicity_score: float
    unsupported: str
    models: str
    score_names: str
    scores: bytes | None
    record: bytes

    def wins_over(self, other: PostRow) -> bool:
        """Whether this record, not the other, is what the post's labels are."""
        if self[1:4] != other[1:4]:
            return self[1:4] > other[1:4]
        return self.labelled_ms < other.labelled_ms


class DeadLetterRow(NamedTuple):
    """One row of `dead_letters`, in the order of its columns; the original cut to a preview."""

    dead_letter_id: str
    at_ms: int
    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    input: str
    post_id: str
    attempt: int
    original: bytes
    original_bytes: int


class UnreadableRecordError(ValueError):
    """A record that is not what its topic promises; counted and skipped."""


def post_row(value: bytes | None, place: Place) -> PostRow:
    """The row of a record on `labels`.

    Raises:
        UnreadableRecordError: it is not a label record.
    """
    try:
        label = decode_label(value or b"")
        return _post_row(label, value or b"", place)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise UnreadableRecordError(str(exc)) from exc


def dead_letter_row(value: bytes | None, place: Place) -> DeadLetterRow:
    """The row of a record on `dead-letters`.

    The same input rejected twice (a worker that died before its commit) is one dead letter; one
    that a producer wrote, without a place on a topic, is known by its own place.

    Raises:
        UnreadableRecordError: it is not a dead letter.
    """
    try:
        letter = decode_dead_letter(value or b"")
        return _dead_letter_row(letter, place)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise UnreadableRecordError(str(exc)) from exc


def _post_row(label: Label, value: bytes, place: Place) -> PostRow:
    if not 0 < len(label.post_id) <= MAX_ID_CHARS:
        raise ValueError("`post_id` is empty or too long")
    origin = label.origin
    labelled_ms = timestamp_ms(label.labelled_at)
    origin_ms, partition, offset = (
        (origin.timestamp_ms, origin.partition, origin.offset)
        if origin
        else (place.timestamp_ms, place.partition, place.offset)
    )
    if max(abs(origin_ms), abs(partition), abs(offset)) > MAX_INT:
        raise ValueError("`origin` holds a number that no broker gives")
    posted_ms = timestamp_ms(label.posted_at) if label.posted_at else labelled_ms
    if label.retracted:
        return PostRow(
            label.post_id, origin_ms, partition, offset, posted_ms, labelled_ms, True,
            "", "", "", "", 0.0, "", 0.0, "", 0.0, "", "", "", None, b"",
        )  # fmt: skip
    post = label.post
    language, language_score = _answer(label.labels.get("language"))
    sentiment, sentiment_score = _answer(label.labels.get("sentiment"))
    toxicity, toxicity_score = _answer(label.labels.get("toxicity"))
    return PostRow(
        label.post_id,
        origin_ms,
        partition,
        offset,
        posted_ms,
        labelled_ms,
        False,
        (post.text or "") if post else "",
        short_name(post.source if post else None),
        short_name(author_name(post.author) if post else None),
        language,
        language_score,
        sentiment,
        sentiment_score,
        toxicity,
        toxicity_score,
        " ".join(sorted(task for task, answer in label.labels.items() if answer.unsupported)),
        _canonical(label.models).decode(),
        *_scores(label.labels),
        value,
    )


def _dead_letter_row(letter: DeadLetter, place: Place) -> DeadLetterRow:
    origin = letter.origin
    if origin and max(abs(origin.partition), abs(origin.offset)) > MAX_INT:
        raise ValueError("`origin` holds a number that no broker gives")
    topic = origin.topic[:_MAX_TOPIC_CHARS] if origin else ""
    return DeadLetterRow(
        (
            f"{topic}/{origin.partition}/{origin.offset}"
            if origin
            else f"dead-letters/{place.partition}/{place.offset}"
        ),
        timestamp_ms(letter.at),
        short_name(letter.reason),
        letter.error[:1000],
        topic,
        origin.partition if origin else -1,
        origin.offset if origin else -1,
        letter.input or "",
        letter.post_id or "",
        min(letter.attempt, MAX_INT),
        letter.original[:_MAX_PREVIEW_BYTES],
        min(letter.original_bytes, MAX_INT),
    )


def _answer(answer: TaskLabel | None) -> tuple[str, float]:
    """A task's label and score; a label that is no label is left out of charts and filters."""
    if answer is None or not _TAG.fullmatch(answer.label):
        return "", 0.0
    return answer.label, min(max(answer.score, 0.0), 1.0)


def _scores(labels: Mapping[str, TaskLabel]) -> tuple[str, bytes]:
    """The names of all scores that thresholds are set on, and the bin of each."""
    names: tuple[str, ...] = ()
    values: list[float] = []
    for task, answer in labels.items():
        if task != "language" and answer.scores:
            names += ("", task, *answer.scores)
            values += answer.scores.values()
    if not values:
        return "", b""
    try:
        bins = bytes([int(value * SCORE_BINS) for value in values])
        return _score_names(names), bins.translate(_TO_LAST_BIN)
    except (ValueError, OverflowError):
        pass  # a score that is no probability
    last = SCORE_BINS - 1
    bins = bytes([min(max(int(min(max(v, 0.0), 1.0) * SCORE_BINS), 0), last) for v in values])
    return _score_names(names), bins


@lru_cache(maxsize=1024)
def _score_names(names: tuple[str, ...]) -> str:
    """`toxicity.insult` and so on, apart by blanks; a name that is no name keeps its place as `?`."""
    task, found, begins = "", list[str](), False
    for name in names:  # an empty name stands before a task's
        if begins:
            task, begins = name, False
        elif not name:
            begins = True
        else:
            found.append(f"{task}.{name}" if _TAG.fullmatch(name) and _TAG.fullmatch(task) else "?")
    return " ".join(found)


def author_name(author: str | Author | None) -> str | None:
    """The author as people know them: the handle, or the id."""
    return (author.handle or author.id) if isinstance(author, Author) else author


def short_name(name: str | None) -> str:
    """A name as rows hold it: cut where it is longer than anyone reads."""
    return (name or "")[:_MAX_NAME_CHARS]


@lru_cache(maxsize=8192)
def latency_bin(latency_ms: int) -> int:
    """The bin of the latency histogram; clocks that disagree give 0, not a negative latency."""
    return round(_BINS_PER_DECADE * math.log10(max(latency_ms, 0) + 1))


def bin_ms(latency_bin: int) -> float:
    """The latency in the middle of a bin, in milliseconds."""
    return float(10 ** (latency_bin / _BINS_PER_DECADE)) - 1
