"""Lines of a source to the topics `posts` and `dead-letters`, every one of them accounted for.

The invariant: `Feeder.flush` returns when the broker has confirmed all that was sent, or raises.
Memory is bounded: at most `MAX_UNCONFIRMED` batches are on the way.

Where a bad line goes: to `posts` as it was, with its place in the header `tidegate-input`, so that
the worker refuses it like any other producer's; straight to `dead-letters` where the worker could
not come to the same verdict (a row of a CSV, a line that was cut) or the broker would not take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from stream.errors import BrokerError, DeliveryError, PostError
from stream.kafka.client import reason_of
from stream.kafka.closing import closed
from stream.records import DeadLetterReason, Post, dead_letter_of, decode_post, encode
from stream.settings import KafkaSettings
from stream.sources.files import BadLine, Line
from stream.sources.producer import started_producer
from stream.topics import DEAD_LETTERS, POSTS

#: The header of a bad line on `posts`: where it was read, as `file:line`.
INPUT_HEADER: Final = "tidegate-input"
#: Kafka's default for the largest message is 1,048,588 bytes with headers, key and framing.
MAX_RECORD_BYTES: Final = 1_000_000
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
        self._cache: dict[bytes, int] = {}
        self._unconfirmed: deque[_Batch] = deque()

    async def __aenter__(self) -> Self:
        self._producer = await started_producer(self._kafka)
        try:
            for topic in (self._posts, self._dead_letters):
                self._partitions[topic] = await self._partition_count(topic)
        except BaseException:
            await closed(self._producer.stop())
            raise
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
        value = encode(post)
        if len(value) > MAX_RECORD_BYTES:
            error = PostError(
                DeadLetterReason.TOO_LARGE,
                f"the post takes {len(value):,} bytes, more than the {MAX_RECORD_BYTES:,} of a record",
            )
            return self._dead_letter(line.where, value, error, post=post)
        self.counts.posts += 1
        return self._posts, self._partition(post), Record(post.key, value, line.where, False)

    def _bad(self, line: BadLine) -> tuple[str, int, Record]:
        self.counts.bad += 1
        if line.cut or len(line.raw) > MAX_RECORD_BYTES or not _refused_alike(line):
            return self._dead_letter(line.where, line.raw, line.error, cut=line.cut)
        partition = (
            _hash(line.where.encode("utf-8", "surrogateescape")) % self._partitions[self._posts]
        )
        return self._posts, partition, Record(None, line.raw, line.where, True)

    def _dead_letter(
        self,
        where: str,
        raw: bytes,
        error: PostError,
        *,
        cut: bool = False,
        post: Post | None = None,
    ) -> tuple[str, int, Record]:
        if post is not None:
            self.counts.bad += 1
        self.counts.dead_lettered += 1
        letter = dead_letter_of(
            error,
            raw,
            at_ms=time.time_ns() // 1_000_000,
            source_input=where,
            post_id=post.id if post else None,
            key=post.key if post else None,
        )
        if cut:
            letter = msgspec.structs.replace(letter, original_truncated=True)
        key = letter.key or where.encode("utf-8", "surrogateescape")
        partition = _hash(key) % self._partitions[self._dead_letters]
        return self._dead_letters, partition, Record(letter.key, encode(letter), where, True)

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
            end = start
            while end < len(records) and _append(builder, records[end]):
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
        from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

        try:
            # The library itself would try an idempotent batch for ever.
            metadata = await asyncio.wait_for(batch.delivery, self._kafka.request_timeout_s)
        except asyncio.CancelledError:
            self._unconfirmed.appendleft(batch)
            raise
        except (MessageSizeTooLargeError, RecordListTooLargeError):
            await self._send_smaller(batch)
            return
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

    async def _send_smaller(self, batch: _Batch) -> None:
        """The topic takes less than Kafka's default: one by one, what is still too large is told."""
        if len(batch.records) > 1:
            for record in batch.records:
                await self._send(batch.topic, batch.partition, [record])
            return
        (record,) = batch.records
        if batch.topic == self._dead_letters:
            raise DeliveryError(
                f"the broker does not take a dead letter of {len(record.value):,} bytes",
                where=record.where,
                hint=f"raise `max.message.bytes` of `{batch.topic}` to Kafka's default",
            )
        error = PostError(
            DeadLetterReason.TOO_LARGE,
            f"the broker does not take a record of {len(record.value):,} bytes",
        )
        if not record.is_bad:
            self.counts.posts -= 1
            self.counts.bad += 1
        topic, partition, letter = self._dead_letter(record.where, record.value, error)
        await self._send(topic, partition, [letter])

    async def _partition_count(self, topic: str) -> int:
        partitions = None
        with contextlib.suppress(Exception):  # the library has several for "there is none"
            partitions = await asyncio.wait_for(self._producer.partitions_for(topic), 10)
        if not partitions:
            raise BrokerError(
                f"the broker has no topic `{topic}`",
                where=self._kafka.bootstrap,
                hint="`tidegate topics create` makes every topic that is missing",
            )
        return len(partitions)

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
