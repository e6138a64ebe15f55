"""Lines of a source to the topics `posts` and `dead-letters`, every one of them accounted for.

The invariant: `Feeder.flush` returns when the broker has confirmed all that was sent, or raises.
Memory is bounded: at most `MAX_UNCONFIRMED` batches are on the way.

Where a bad line goes: to `posts` as it was, with its place in the header `tidegate-input`, so that
the worker refuses it like any other producer's; straight to `dead-letters` where the worker could
not come to the same verdict (a row of a CSV, a line that was cut) or the broker would not take it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from stream.errors import BrokerError, DeliveryError, PostError
from stream.kafka.admin import open_admin
from stream.kafka.client import reason_of
from stream.kafka.closing import closed
from stream.kafka.packing import DEFAULT_MAX_BATCH_BYTES
from stream.kafka.states import TopicLayout
from stream.post_decoding import decode_post
from stream.records import DeadLetterReason, Post, dead_letter_of, encode
from stream.settings import KafkaSettings
from stream.sources.files import BadLine, Line
from stream.sources.producer import started_producer
from stream.topics import DEAD_LETTERS, POSTS

#: The header of a bad line on `posts`: where it was read, as `file:line`.
INPUT_HEADER: Final = "tidegate-input"
#: Around a record and its batch: lengths, checksums, the name of the header.
_OVERHEAD_BYTES: Final = 256
#: Before base64, with room for reason and place.
_LETTER_BYTES: Final = 4096
MAX_UNCONFIRMED: Final = 64
#: Authors come back; hashing a key in Python costs as much as decoding a post.
_PARTITION_CACHE = 100_000


class Confirmed(NamedTuple):
    """Records of one batch that the broker has: `records` of them from `offset` on."""

    topic: str
    partition: int
    offset: int
    records: int
    sent_at_s: float  # time.monotonic


class Record(NamedTuple):
    """One record on its way."""

    key: bytes | None
    value: bytes
    where: str
    is_bad: bool

    @property
    def size(self) -> int:
        """Bytes that it takes of a batch, at most."""
        header = len(self.where.encode("utf-8", "replace")) if self.is_bad else 0
        return len(self.value) + len(self.key or b"") + header + _OVERHEAD_BYTES


class FeedCounts(msgspec.Struct):
    """What was sent and confirmed; `dead_lettered` are those of `bad` that skipped `posts`."""

    posts: int = 0
    bad: int = 0
    dead_lettered: int = 0
    confirmed: int = 0


class _Batch(NamedTuple):
    topic: str
    partition: int
    records: list[Record]
    sent_at_s: float
    delivery: asyncio.Future[Any]


class Feeder:
    """Use as `async with Feeder(settings.kafka) as feeder`.

    Args:
        kafka: the broker.
        on_confirmed: is told of every batch that the broker has.

    Raises:
        BrokerError: the broker cannot be used, or lacks the topics.
    """

    def __init__(
        self, kafka: KafkaSettings, *, on_confirmed: Callable[[Confirmed], None] | None = None
    ) -> None:
        self.counts = FeedCounts()
        self._kafka = kafka
        self._on_confirmed = on_confirmed
        self._producer: Any = None
        self._posts = POSTS.full_name(kafka.topic_prefix)
        self._dead_letters = DEAD_LETTERS.full_name(kafka.topic_prefix)
        self._partitions: dict[str, int] = {}
        self._limits: dict[str, int] = {}
        self._cache: dict[bytes, int] = {}
        self._unconfirmed: deque[_Batch] = deque()

    async def __aenter__(self) -> Self:
        layouts = await asyncio.to_thread(self._layouts)
        for topic, layout in layouts.items():
            self._partitions[topic] = layout.partitions
            most = layout.max_batch_bytes or DEFAULT_MAX_BATCH_BYTES
            self._limits[topic] = min(most, DEFAULT_MAX_BATCH_BYTES)
        self._producer = await started_producer(self._kafka)
        return self

    async def __aexit__(self, *_: object) -> None:
        await closed(self._producer.stop())

    async def send(self, lines: Sequence[Line], round_number: int = 1) -> None:
        """Send the lines; waits while too much is on the way.

        Args:
            lines: in the order of the source, which is kept for each key.
            round_number: from 2 on the ids get it as a suffix, and so are new posts.

        Raises:
            DeliveryError: the broker did not take something.
        """
        batches: dict[tuple[str, int], list[Record]] = {}
        for line in lines:
            topic, partition, record = self._record(line, round_number)
            batches.setdefault((topic, partition), []).append(record)
        sending = asyncio.ensure_future(
            asyncio.gather(*(self._send(*place, records) for place, records in batches.items()))
        )
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending  # what is counted as sent is sent, also on Ctrl-C
            raise
        while self._unconfirmed and (
            len(self._unconfirmed) > MAX_UNCONFIRMED or self._unconfirmed[0].delivery.done()
        ):
            await self._confirm(self._unconfirmed.popleft())

    async def flush(self) -> None:
        """Wait until the broker has everything.

        Raises:
            DeliveryError: it does not.
        """
        while self._unconfirmed:
            await self._confirm(self._unconfirmed.popleft())

    def _record(self, line: Line, round_number: int) -> tuple[str, int, Record]:
        if isinstance(line, BadLine):
            return self._bad(line)
        post = line.post
        if round_number > 1:
            post = msgspec.structs.replace(post, id=f"{post.id}#{round_number}")
        record = Record(post.key, encode(post), line.where, False)
        if record.size > self._limits[self._posts]:
            return self._oversized(record, post)
        self.counts.posts += 1
        return self._posts, self._partition(post), record

    def _oversized(self, record: Record, post: Post) -> tuple[str, int, Record]:
        self.counts.bad += 1
        error = PostError(
            DeadLetterReason.TOO_LARGE,
            f"the post takes {record.size:,} bytes, "
            f"more than the {self._limits[self._posts]:,} that the topic takes",
        )
        return self._dead_letter(record.where, record.value, error, post=post)

    def _bad(self, line: BadLine) -> tuple[str, int, Record]:
        self.counts.bad += 1
        record = Record(None, line.raw, line.where, True)
        if line.cut or record.size > self._limits[self._posts] or not _refused_alike(line):
            return self._dead_letter(line.where, line.raw, line.error, cut=line.cut)
        place = line.where.encode("utf-8", "surrogateescape")
        return self._posts, _hash(place) % self._partitions[self._posts], record

    def _dead_letter(
        self,
        where: str,
        raw: bytes,
        error: PostError,
        *,
        cut: bool = False,
        post: Post | None = None,
    ) -> tuple[str, int, Record]:
        self.counts.dead_lettered += 1
        # What the topic can hold, in base64; the key of a strange post may be longer than its text.
        most = (self._limits[self._dead_letters] - _LETTER_BYTES) * 3 // 4
        key = post.key if post is not None and len(post.key) <= _LETTER_BYTES // 4 else None
        letter = dead_letter_of(
            error,
            raw[:most],
            at_ms=time.time_ns() // 1_000_000,
            source_input=where,
            post_id=post.id if post else None,
            key=key,
        )
        letter = msgspec.structs.replace(
            letter,
            original_bytes=len(raw),
            original_truncated=cut or len(letter.original) < len(raw),
        )
        place = key or where.encode("utf-8", "surrogateescape")
        partition = _hash(place) % self._partitions[self._dead_letters]
        return self._dead_letters, partition, Record(key, encode(letter), where, True)

    def _partition(self, post: Post) -> int:
        key = post.key
        partition = self._cache.get(key)
        if partition is None:
            partition = _hash(key) % self._partitions[self._posts]
            if post.author is not None:  # a key made of the id does not come back
                if len(self._cache) >= _PARTITION_CACHE:
                    self._cache.clear()
                self._cache[key] = partition
        return partition

    async def _send(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        start = 0
        while start < len(records):
            builder = self._producer.create_batch()
            end, room = start, self._limits[topic]
            while end < len(records) and (end == start or records[end].size <= room):
                if not _append(builder, records[end]):
                    break
                room -= records[end].size
                end += 1
            builder.close()  # a closed batch does not wait for more
            sent_at_s = time.monotonic()
            try:
                delivery = await self._producer.send_batch(builder, topic, partition=partition)
            except Exception as exc:
                raise self._undelivered(topic, exc) from exc
            self._unconfirmed.append(
                _Batch(topic, partition, list(records[start:end]), sent_at_s, delivery)
            )
            start = end

    async def _confirm(self, batch: _Batch) -> None:
        try:
            # The library itself would try an idempotent batch for ever.
            metadata = await asyncio.wait_for(batch.delivery, self._kafka.request_timeout_s)
        except asyncio.CancelledError:
            self._unconfirmed.appendleft(batch)
            raise
        except Exception as exc:
            raise self._undelivered(batch.topic, exc) from exc
        self.counts.confirmed += len(batch.records)
        if self._on_confirmed is not None:
            self._on_confirmed(
                Confirmed(
                    batch.topic,
                    batch.partition,
                    metadata.offset,
                    len(batch.records),
                    batch.sent_at_s,
                )
            )

    def _layouts(self) -> dict[str, TopicLayout]:
        with open_admin(self._kafka) as admin:
            layouts = admin.layout((POSTS, DEAD_LETTERS))
        for topic in (self._posts, self._dead_letters):
            if topic not in layouts:
                raise BrokerError(
                    f"the broker has no topic `{topic}`",
                    where=self._kafka.bootstrap,
                    hint="`tidegate topics create` makes every topic that is missing",
                )
        return layouts

    def _undelivered(self, topic: str, exc: Exception) -> DeliveryError:
        return DeliveryError(
            f"the broker did not confirm what was sent to `{topic}`: {reason_of(exc)}",
            where=self._kafka.bootstrap,
            hint=f"{self.counts.confirmed:,} records were confirmed before; is the broker still up?",
        )


def _append(builder: Any, record: Record) -> bool:
    headers = [(INPUT_HEADER, record.where.encode("utf-8", "replace"))] if record.is_bad else []
    appended = builder.append(timestamp=None, key=record.key, value=record.value, headers=headers)
    return appended is not None


def _refused_alike(line: BadLine) -> bool:
    """Whether the worker, given the bytes, says what the reader said."""
    try:
        decode_post(line.raw)
    except PostError as exc:
        return exc.reason == line.error.reason
    return False


def _hash(key: bytes) -> int:
    from aiokafka.partitioner import murmur2

    return int(murmur2(key)) & 0x7FFFFFFF
