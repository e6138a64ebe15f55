from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stream.errors import DeliveryError
from stream.kafka.publisher import Output, Packed, Publisher


def _publisher(limit: int = 1_000_000, batch: int = 512 * 1024, **options: Any) -> Publisher:
    producer = SimpleNamespace(create_batch=lambda: BatchBuilder(batch, 0))
    return Publisher(lambda: producer, max_batch_bytes={"labels": limit}, **options)


def _read(packed: Packed) -> list[tuple[bytes | None, bytes]]:
    records = MemoryRecords(bytes(packed.builder._build()))
    found: list[tuple[bytes | None, bytes]] = []
    while records.has_next():
        found += [(record.key, record.value) for record in records.next_batch()]
    return found


def _outputs(count: int, size: int = 10, partitions: int = 2) -> list[Output]:
    return [
        Output("labels", n % partitions, b"k%d" % n, b"%d" % n + b"v" * size) for n in range(count)
    ]


def test_outputs_are_packed_per_partition_in_their_order() -> None:
    outputs = _outputs(50)
    packed = _publisher().pack(outputs, 5)
    assert [(p.topic, p.partition) for p in packed] == [("labels", 0), ("labels", 1)]
    for batch in packed:
        assert _read(batch) == [(o.key, o.value) for o in outputs if o.partition == batch.partition]


@pytest.mark.parametrize("limits", [{"limit": 2_000}, {"batch": 2_000}])
def test_no_batch_is_larger_than_its_topic_or_the_producer_takes(limits: dict[str, int]) -> None:
    outputs = _outputs(60, size=200, partitions=1)
    packed = _publisher(**limits).pack(outputs, 5)
    assert len(packed) > 1
    assert all(batch.builder.size() <= 2_000 for batch in packed)
    assert [pair for batch in packed for pair in _read(batch)] == [
        (o.key, o.value) for o in outputs
    ]


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    outputs = [*_outputs(2, partitions=1), Output("labels", 0, None, b"x" * 5_000)]
    packed = _publisher(batch=2_000).pack(outputs, 5)
    assert [len(_read(batch)) for batch in packed] == [2, 1]


def test_a_record_its_topic_does_not_take_is_replaced() -> None:
    def instead(output: Output, limit: int) -> Output:
        return Output("dead-letters", output.partition, None, b"instead of %d" % limit)

    packed = _publisher(limit=1_000, instead=instead).pack(
        [Output("labels", 3, None, b"x" * 2_000, source="a post")], 5
    )
    assert [(p.topic, p.partition, _read(p)) for p in packed] == [
        ("dead-letters", 3, [(None, b"instead of 1000")])
    ]


def test_a_dead_letter_its_topic_does_not_take_is_an_error_with_a_hint() -> None:
    with pytest.raises(DeliveryError, match="more than the topic takes") as caught:
        _publisher(limit=100).pack([Output("labels", 3, None, b"x" * 2_000)], 5)
    assert caught.value.where == "labels[3]"


async def _future(result: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if isinstance(result, BaseException):
        future.set_exception(result)
    elif result is not None:
        future.set_result(result)
    return future


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KafkaTimeoutError("too late"), "too late"),
        (MessageSizeTooLargeError(), "smaller batches than it did"),
    ],
)
async def test_one_failed_delivery_fails_them_all(error: Exception, words: str) -> None:
    deliveries = [await _future("fine"), await _future(error)]
    with pytest.raises(DeliveryError, match=words):
        await _publisher().confirm(deliveries)


async def test_a_delivery_nobody_confirms_fails_in_time() -> None:
    deliveries = [await _future("fine"), await _future(None)]
    with pytest.raises(DeliveryError, match="did not confirm 1 batches"):
        await _publisher(timeout_s=0.05).confirm(deliveries)


async def test_what_is_confirmed_is_confirmed() -> None:
    await _publisher().confirm([await _future("fine")])
    await _publisher().confirm([])
