"""Reads labels, dead letters and decisions as any reader would and keeps the account of a run.

It takes every partition from its end at the time of `start`, without a group, so it disturbs
nobody on a broker that others use too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from stream.demo.account import Account, Answer
from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.client import aiokafka_config, reason_of
from stream.kafka.closing import closed
from stream.kafka.offsets import offset_ranges
from stream.records import ModelRef, Origin
from stream.settings import KafkaSettings
from stream.sources.feeder import Confirmed
from stream.topics import DEAD_LETTERS, DECISIONS, LABELS, POSTS

_MOST_RECORDS: Final = 2000
#: Latencies that the status line looks at; those of the whole run are kept up to a bound.
_RECENT: Final = 1000
_MOST_LATENCIES: Final = 5_000_000


class _Answered(msgspec.Struct):
    """As much of a label or dead letter as the account needs."""

    origin: Origin | None = None
    models: dict[str, ModelRef] | None = None


class _Decided(msgspec.Struct):
    """As much of a decision."""

    decision_id: str
    action: str
    retracted: bool = False


class Watcher:
    """Use as `async with Watcher(settings.kafka) as watcher`; `confirmed` is the feeder's callback."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.account = Account(self._took)
        self.latencies_s = array("d")
        self.recent_s: deque[float] = deque(maxlen=_RECENT)
        self.models: dict[str, ModelRef] = {}
        self.first_answer_s: float | None = None
        self.last_answer_s: float | None = None
        self.first_sent_s: float | None = None
        #: Decisions read, and the ids of those that a target hears of: every other action, and
        #: an `allow` where the post was taken back.
        self.decided = 0
        self.to_deliver: set[str] = set()
        self.changed = asyncio.Event()
        self._kafka = kafka
        self._posts, self._labels, self._dead_letters, self._decisions = (
            topic.full_name(kafka.topic_prefix)
            for topic in (POSTS, LABELS, DEAD_LETTERS, DECISIONS)
        )
        self._decode = msgspec.json.Decoder(_Answered).decode
        self._decode_decision = msgspec.json.Decoder(_Decided).decode
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        self._consumer = AIOKafkaConsumer(
            **aiokafka_config(self._kafka),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
        )
        try:
            await self._consumer.start()
            ends = await asyncio.to_thread(self._end_offsets)
            partitions = {TopicPartition(*place): end for place, end in ends.items()}
            self._consumer.assign(list(partitions))
            for partition, end in partitions.items():
                self._consumer.seek(partition, end)
        except BaseException:
            await closed(self._consumer.stop())
            raise
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
        await closed(self._consumer.stop())

    def confirmed(self, batch: Confirmed) -> None:
        """The broker has a batch of the feeder's."""
        if self.first_sent_s is None:
            self.first_sent_s = batch.sent_at_s
        if batch.topic == self._posts:
            self.account.post(batch.partition, batch.offset, batch.records, batch.sent_at_s)
        else:
            self.account.refuse(batch.records)
        self.changed.set()

    def check(self) -> None:
        """Raise what ended the reading, if something did.

        Raises:
            BrokerError: the broker went away.
        """
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if error is not None:
                raise BrokerError(
                    f"the labels cannot be read: {reason_of(error)}", where=self._kafka.bootstrap
                ) from error

    def _end_offsets(self) -> dict[tuple[str, int], int]:
        with open_admin(self._kafka) as admin:
            layouts = admin.layout((LABELS, DEAD_LETTERS, DECISIONS))
        for topic in (self._labels, self._dead_letters, self._decisions):
            if topic not in layouts:
                raise BrokerError(f"the broker has no topic `{topic}`", where=self._kafka.bootstrap)
        places = [(topic, n) for topic, it in layouts.items() for n in range(it.partitions)]
        ranges = offset_ranges(self._kafka, places)
        return {place: found.end for place, found in ranges.items()}

    async def _read(self) -> None:
        while True:
            fetched = await self._consumer.getmany(timeout_ms=200, max_records=_MOST_RECORDS)
            now_s = time.monotonic()
            for partition, records in fetched.items():
                if partition.topic == self._decisions:
                    self._take_decisions(records)
                    continue
                answer = Answer.LABEL if partition.topic == self._labels else Answer.DEAD_LETTER
                for record in records:
                    self._take(record.value, answer, now_s)
            if fetched:
                self.changed.set()

    def _take_decisions(self, records: Sequence[Any]) -> None:
        for record in records:
            with contextlib.suppress(msgspec.DecodeError):  # somebody else's
                decided = self._decode_decision(record.value or b"")
                self.decided += 1
                if decided.action != "allow" or decided.retracted:
                    self.to_deliver.add(decided.decision_id)

    def _take(self, value: bytes | None, answer: Answer, now_s: float) -> None:
        try:
            answered = self._decode(value or b"")
        except msgspec.DecodeError:
            return  # somebody else's record; the account misses it if it was ours
        if answered.models is not None:
            self.models = answered.models
        origin = answered.origin
        if origin is not None and origin.topic == self._posts:
            self.account.answer(origin.partition, origin.offset, answer, now_s)

    def _took(self, seconds: float) -> None:
        now_s = time.monotonic()
        if self.first_answer_s is None:
            self.first_answer_s = now_s
        self.last_answer_s = now_s
        self.recent_s.append(seconds)
        if len(self.latencies_s) < _MOST_LATENCIES:
            self.latencies_s.append(seconds)
