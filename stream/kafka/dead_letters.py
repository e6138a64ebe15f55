"""The topic `dead-letters`, read to its end as it is now, and sent back where it came from.

A record that a crash wrote twice is given once: dead letters have deterministic ids. A replay
sends the original bytes under the original key into the original partition, with the number of
the attempt in a header, and counts a letter as sent only when the broker has confirmed it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from stream.errors import BrokerError, DeliveryError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.scan import scan
from stream.records import DeadLetter, decode_dead_letter
from stream.settings import KafkaSettings
from stream.times import moment_or_never
from stream.topics import DEAD_LETTERS

#: Letters sent before their confirmations are awaited; bounds the memory.
_SENT_AT_ONCE = 500


class StoredLetter(NamedTuple):
    """A dead letter and where it lies in the topic."""

    letter: DeadLetter
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant; an empty filter means all.

    `topics` are those the originals came from; `since` compares with the time of the failure.
    """

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since: datetime | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.topics and (letter.origin is None or letter.origin.topic not in self.topics):
            return False
        return self.since is None or moment_or_never(letter.at) >= self.since


class Kept(StrEnum):
    """Why a replay leaves a dead letter where it is."""

    INCOMPLETE = "incomplete"
    NO_TOPIC = "no-topic"
    TOPIC_GONE = "topic-gone"


@dataclass(slots=True)
class ReplayCount:
    """What a replay did; `kept` counts by reason what it did not send."""

    replayed: int = 0
    kept: Counter[Kept] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)


def read_letters(
    kafka: KafkaSettings,
    wanted: Callable[[DeadLetter], bool],
    unreadable: Callable[[int, int], None] = lambda _partition, _offset: None,
) -> Iterator[StoredLetter]:
    """The wanted dead letters that are in the topic now, oldest first within each partition.

    Args:
        kafka: the broker.
        wanted: a `LetterFilter`, or any other question.
        unreadable: told partition and offset of each record that is no dead letter.

    Raises:
        BrokerError: the broker does not answer, or goes away in the middle.
    """
    seen: set[bytes] = set()
    for partition, offset, _, value in scan(kafka, DEAD_LETTERS.full_name(kafka.topic_prefix)):
        try:
            letter = decode_dead_letter(value or b"")
        except msgspec.DecodeError:
            unreadable(partition, offset)
            continue
        # Sixteen bytes a letter, not the letter: a topic may hold millions.
        digest = hashlib.blake2b(letter.dead_letter_id.encode(), digest_size=16).digest()
        if digest in seen or not wanted(letter):
            continue
        if letter.dead_letter_id != "?":  # what nobody could name is not the same thing twice
            seen.add(digest)
        yield StoredLetter(letter, partition, offset)


def replay_letters(
    kafka: KafkaSettings,
    letters: Iterable[DeadLetter],
    partitions: dict[str, int],
    count: ReplayCount,
) -> None:
    """Send the originals back.

    Args:
        kafka: the broker.
        letters: what to send; an incomplete original is left out, and counted.
        partitions: the topics that exist, each with its number of partitions.
        count: what was done is added here, also when this ends with an error.

    Raises:
        DeliveryError: the broker did not confirm one; `count` says what was sent.
    """
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(
            **kafka_python_config(kafka), acks="all", linger_ms=5, max_block_ms=15_000
        )
    except KafkaError as exc:
        raise BrokerError(f"no connection for sending: {reason_of(exc)}") from exc
    with contextlib.closing(producer):
        waiting: list[tuple[DeadLetter, Any]] = []
        try:
            for letter in letters:
                if (kept := why_kept(letter, partitions)) is not None:
                    count.kept[kept] += 1
                    continue
                waiting.append((letter, _send(producer, letter, partitions)))
                if len(waiting) >= _SENT_AT_ONCE:
                    _confirm(waiting, count, kafka.request_timeout_s)
            _confirm(waiting, count, kafka.request_timeout_s)
        except KafkaError as exc:
            raise DeliveryError(
                f"the broker did not confirm a replayed record: {reason_of(exc)}",
                hint="run the replay again: a post that is labelled twice has the same labels",
            ) from exc


def why_kept(letter: DeadLetter, partitions: dict[str, int]) -> Kept | None:
    """Why a letter cannot be replayed; None where it can."""
    if letter.original_truncated:
        return Kept.INCOMPLETE
    if letter.origin is None:
        return Kept.NO_TOPIC
    return None if letter.origin.topic in partitions else Kept.TOPIC_GONE


def _send(producer: Any, letter: DeadLetter, partitions: dict[str, int]) -> Any:
    from stream.pipeline import ATTEMPT_HEADER, INPUT_HEADER

    origin = letter.origin
    assert origin is not None
    headers = [(ATTEMPT_HEADER, str(letter.attempt + 1).encode())]
    if letter.input is not None:
        headers.append((INPUT_HEADER, letter.input.encode("utf-8", "replace")))
    # Its own partition keeps the order with its author's other posts, whoever partitioned them.
    there = origin.partition < partitions[origin.topic]
    return producer.send(
        origin.topic,
        value=letter.original,
        key=letter.key,
        headers=headers,
        partition=origin.partition if there else None,
    )


def _confirm(waiting: list[tuple[DeadLetter, Any]], count: ReplayCount, timeout_s: float) -> None:
    for letter, future in waiting:
        future.get(timeout_s)
        assert letter.origin is not None
        count.replayed += 1
        count.topics[letter.origin.topic] += 1
    waiting.clear()
