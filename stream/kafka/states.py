"""What is told of topics and consumer groups, as `--json` prints it.

Offsets are Kafka's: `first` is the oldest record there is, `end` one past the newest.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.topics import Topic


class CreatedTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic of the catalogue after `create`; `created` is False where it was there before."""

    name: str
    created: bool
    partitions: int


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: offsets `first` up to, not including, `end`; `leader` -1 where there is none."""

    partition: int
    first: int
    end: int
    leader: int
    replicas: int
    in_sync: int


class TopicState(msgspec.Struct, frozen=True, kw_only=True):
    """One topic of the catalogue as it is on the broker.

    `retention_s` and `cleanup` are None where the broker does not tell, `retention_s` also where
    records never expire. `problems` are sentences.
    """

    name: str
    topic: str
    exists: bool
    description: str
    record: str
    key: str
    partitions: list[PartitionState] = []
    records: int = 0
    retention_s: int | None = None
    cleanup: str | None = None
    problems: list[str] = []


class TopicLayout(msgspec.Struct, frozen=True, kw_only=True):
    """What a producer must know; `max_batch_bytes` is None where the broker does not tell."""

    partitions: int
    max_batch_bytes: int | None


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group is behind in one partition; `committed` is None before its first commit."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class GroupLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group is behind."""

    group: str
    lag: int
    partitions: list[PartitionLag]


class GroupMember(msgspec.Struct, frozen=True, kw_only=True):
    """A process in a consumer group; `host` is the address the broker sees."""

    client: str
    host: str


def problems_of(
    topic: Topic,
    exists: bool,
    partitions: Sequence[PartitionState],
    config: dict[str, str],
    counts: set[int],
) -> list[str]:
    """What does not fit the catalogue or needs a look, in sentences."""
    if not exists:
        return ["it does not exist: `tidegate topics create` makes it"]
    problems = []
    if topic.partitioned and len(counts) > 1:
        problems.append(
            f"it has {len(partitions)} partitions and another topic has another number: "
            "a label goes to the partition number of its post"
        )
    if leaderless := [p.partition for p in partitions if p.leader < 0]:
        problems.append(f"no leader for {_partition_list(leaderless)}: a broker is down")
    if behind := [p.partition for p in partitions if p.in_sync < p.replicas]:
        problems.append(f"replicas of {_partition_list(behind)} are behind")
    wanted = topic.config()
    problems.extend(
        f"`{key}` is {config[key]}, the catalogue says {wanted[key]}"
        for key in wanted
        if key in config and config[key] != wanted[key]
    )
    return problems


def _partition_list(numbers: Sequence[int]) -> str:
    word = "partition" if len(numbers) == 1 else "partitions"
    return f"{word} {', '.join(map(str, numbers))}"
