"""Where a target begins: with what comes after a worker first heard of it, or as far back as it asks.

Invariant: a target that has begun goes on where it was, whatever its `since` says. The place is
committed in its group before anything is read, and before the other roles of the worker start: what
they decide is the target's, and a kill cannot move it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

from stream.decisions.readback import TopicReader, find
from stream.errors import BrokerError
from stream.hooks.targets import RECORDS, Target
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import OffsetRange
from stream.kafka.scan import open_scanner
from stream.logs import get_logger
from stream.roles import Duty, group_of
from stream.settings import KafkaSettings, Settings

log = get_logger(__name__)

_NO_METADATA: Final = ""
_NO_EPOCH: Final = -1
_TRIES: Final = 20
_PAUSE_S: Final = 0.5


def begin(settings: Settings, targets: Mapping[str, Target]) -> None:
    """Commit where each target begins that has not begun.

    A topic of which a group has committed nothing is new to it; partitions that are added to one
    that it knows are read from their beginning, like those of every other role.

    Args:
        settings: all of them.
        targets: by name.

    Raises:
        BrokerError: the broker does not answer.
    """
    kafka = settings.kafka
    topics = {
        name: [
            RECORDS[each].full_name(kafka.topic_prefix) for each in dict.fromkeys(target.records)
        ]
        for name, target in targets.items()
    }
    if not topics:
        return
    with open_scanner(kafka) as scanner:
        there = scanner.ranges(*{topic for several in topics.values() for topic in several})
    for name, target in targets.items():
        group = group_of(settings, Duty("hooks", name))
        known = {topic: there[topic] for topic in topics[name]}
        places = _begin(kafka, group, known, target.since)
        if places:
            log.info("target begins", target=name, since_s=target.since, topics=sorted(places))


def _begin(
    kafka: KafkaSettings, group: str, there: Mapping[str, Mapping[int, OffsetRange]], since_s: float
) -> set[str]:
    """The topics in which the group begins now."""
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError
    from kafka.structs import OffsetAndMetadata

    try:
        consumer = KafkaConsumer(
            **kafka_python_config(kafka), group_id=group, enable_auto_commit=False
        )
        with contextlib.closing(consumer):
            for _ in range(_TRIES):
                new = {
                    topic: parts
                    for topic, parts in there.items()
                    if all(consumer.committed(TopicPartition(topic, n)) is None for n in parts)
                }
                places = {
                    TopicPartition(topic, number): OffsetAndMetadata(at, _NO_METADATA, _NO_EPOCH)
                    for topic, parts in new.items()
                    for number, at in _places(kafka, topic, parts, since_s).items()
                }
                if not places or _commit(consumer, places):
                    return set(new)
                # Another worker's process of the target is there: it begins too, or it ends.
                time.sleep(_PAUSE_S)
    except KafkaError as exc:
        raise BrokerError(
            f"where the target begins cannot be committed: {reason_of(exc)}", where=group
        ) from exc
    return set()


def _commit(consumer: Any, places: Mapping[Any, Any]) -> bool:
    """Commit for a group that nobody is in; False: somebody is."""
    from kafka.errors import CommitFailedError, IllegalGenerationError, UnknownMemberIdError

    consumer.assign(list(places))
    try:
        consumer.commit(dict(places))
    except (CommitFailedError, IllegalGenerationError, UnknownMemberIdError):
        return False
    return True


def _places(
    kafka: KafkaSettings, topic: str, parts: Mapping[int, OffsetRange], since_s: float
) -> dict[int, int]:
    """By partition the first record that is not older than that; without `since_s` the end."""
    if not since_s:
        return {number: within.end for number, within in parts.items()}
    since_ms = int((time.time() - since_s) * 1000)
    with TopicReader(kafka) as reader:
        return {n: _first_since(reader, topic, n, within, since_ms) for n, within in parts.items()}


def _first_since(
    reader: TopicReader, topic: str, partition: int, within: OffsetRange, since_ms: int
) -> int:
    near = find(reader, topic, partition, within, lambda record: record.timestamp >= since_ms)
    for record in reader.read(topic, partition, near, within.end):
        if record.timestamp >= since_ms:
            return record.offset
    return within.end
