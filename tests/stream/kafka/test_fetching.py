"""Records of batched topics come as aiokafka parsed them, with everything that is read of them."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer.fetcher import FetchError, FetchResult, PartitionRecords
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream.kafka.fetching import _BareRecords

BATCHED, ORDINARY = TopicPartition("posts", 1), TopicPartition("reviews", 0)
HEADERS = [("tidegate-attempt", b"2")]


class _Assignment:
    """What a fetch is read for: the partition is ours, and read up to its beginning."""

    active = True

    class _State:
        paused, position = False, 0

        def consumed_to(self, position: int) -> None:
            self.position = position

    def __init__(self) -> None:
        self._state = self._State()

    def state_value(self, _: TopicPartition) -> Any:
        return self._state


def _fetched(tp: TopicPartition) -> FetchResult:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    builder.append(0, 1_760_000_000_000, b"ann", b"first", HEADERS)
    builder.append(1, 1_760_000_000_001, None, b"second", [])
    builder.append(2, 1_760_000_000_002, b"ann", None, [])
    records = PartitionRecords(
        tp, MemoryRecords(bytes(builder.build())), [], 0, None, None, True, 0
    )
    return FetchResult(tp, assignment=_Assignment(), partition_records=records, backoff=0.1)


@pytest.mark.parametrize("already_held", [False, True])
def test_a_record_has_what_is_read_of_it_and_is_not_copied(already_held: bool) -> None:
    (copied, *_) = copies = _fetched(BATCHED).getall()
    assert isinstance(copied, ConsumerRecord)
    before = {BATCHED: _fetched(BATCHED)} if already_held else {}
    held = _BareRecords({"posts"}, before)
    if not already_held:
        held[BATCHED] = _fetched(BATCHED)
    bare = held[BATCHED].getall()
    assert not any(isinstance(record, ConsumerRecord) for record in bare)
    for ours, theirs in zip(bare, copies, strict=True):
        assert (ours.offset, ours.timestamp) == (theirs.offset, theirs.timestamp)
        assert (ours.key, ours.value) == (theirs.key, theirs.value)
        assert dict(ours.headers) == dict(theirs.headers)


def test_records_of_ordinary_topics_are_what_faust_expects() -> None:
    held = _BareRecords({"posts"}, {})
    held[ORDINARY] = _fetched(ORDINARY)
    assert all(isinstance(record, ConsumerRecord) for record in held[ORDINARY].getall())


def test_a_fetch_that_failed_is_held_too() -> None:
    held = _BareRecords({"posts"}, {})
    held[BATCHED] = FetchError(error=OffsetOutOfRangeError({}), backoff=0.1)
    with pytest.raises(OffsetOutOfRangeError):
        held[BATCHED].check_raise()
