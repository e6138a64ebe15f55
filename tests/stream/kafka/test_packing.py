"""Batches as they go over the wire, read back with aiokafka's own reader."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from stream.errors import DeliveryError
from stream.kafka.packing import Output, Packed, Packer


def _packer(limit: int = 1_000_000, batch: int = 512 * 1024, **options: Any) -> Packer:
    return Packer({"labels": limit}, batch_bytes=batch, **options)


def _read(packed: Packed) -> list[tuple[bytes | None, bytes]]:
    records = MemoryRecords(bytes(packed.builder.buffer))
    found: list[tuple[bytes | None, bytes]] = []
    while records.has_next():
        batch = records.next_batch()
        assert batch is not None
        assert batch.validate_crc()
        found += [(record.key, record.value) for record in batch]
    assert len(found) == packed.builder.record_count()
    return found


def _outputs(count: int, size: int = 10, partitions: int = 2) -> list[Output]:
    return [
        Output("labels", n % partitions, b"k%d" % n, b"%d" % n + b"v" * size) for n in range(count)
    ]


def test_outputs_are_packed_per_partition_in_their_order() -> None:
    outputs = _outputs(50)
    packed = _packer().pack(outputs, 5)
    assert [(p.topic, p.partition) for p in packed] == [("labels", 0), ("labels", 1)]
    for batch in packed:
        assert _read(batch) == [(o.key, o.value) for o in outputs if o.partition == batch.partition]


@pytest.mark.parametrize("limits", [{"limit": 2_000}, {"batch": 2_000}])
def test_no_batch_is_larger_than_its_topic_or_the_producer_takes(limits: dict[str, int]) -> None:
    outputs = _outputs(60, size=200, partitions=1)
    packed = _packer(**limits).pack(outputs, 5)
    assert len(packed) > 1
    assert all(batch.builder.size() <= 2_000 for batch in packed)
    assert [pair for batch in packed for pair in _read(batch)] == [
        (o.key, o.value) for o in outputs
    ]


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    outputs = [*_outputs(2, partitions=1), Output("labels", 0, None, b"x" * 5_000)]
    packed = _packer(batch=2_000).pack(outputs, 5)
    assert [len(_read(batch)) for batch in packed] == [2, 1]


def test_a_record_its_topic_does_not_take_is_replaced() -> None:
    def instead(output: Output, limit: int) -> Output:
        return Output("dead-letters", output.partition, None, b"instead of %d" % limit)

    packed = _packer(limit=1_000, instead=instead).pack(
        [Output("labels", 3, None, b"x" * 2_000, source="a post")], 5
    )
    assert [(p.topic, p.partition, _read(p)) for p in packed] == [
        ("dead-letters", 3, [(None, b"instead of 1000")])
    ]


def test_a_dead_letter_its_topic_does_not_take_is_an_error_with_a_hint() -> None:
    with pytest.raises(DeliveryError, match="more than the topic takes") as caught:
        _packer(limit=100).pack([Output("labels", 3, None, b"x" * 2_000)], 5)
    assert caught.value.where == "labels[3]"


def test_lanes_that_take_turns_keep_their_own_batch_and_order() -> None:
    """Labels and dead letters of two partitions, one after the other: every change of lane."""
    outputs = [
        Output(topic, partition, b"%d" % n, b"%s of %d" % (topic.encode(), n))
        for n in range(30)
        for topic in ("labels", "dead-letters")
        for partition in (0, 1)
    ]
    packed = Packer().pack(outputs, 5)
    assert len(packed) == 4
    for batch in packed:
        lane = (batch.topic, batch.partition)
        assert _read(batch) == [(o.key, o.value) for o in outputs if (o.topic, o.partition) == lane]
