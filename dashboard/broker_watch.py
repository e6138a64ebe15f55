"""What the broker says of our topics and of the workers' group, asked from a thread of its own.

Invariant: a broker that is away, slow or lying costs the projector nothing: the watch has its own
connections, keeps trying, and what it last saw stands with the time it saw it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from dashboard.reading import READ_TOPICS
from dashboard.store import PartitionBacklog
from dashboard.worker_beats import role_of
from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.preflight import check_broker
from stream.settings import Settings
from stream.topics import POSTS

_INTERVAL_S: Final = 2.0
#: How often the groups of the roles after labelling are asked: one request each.
_ROLES_S: Final = 5.0
_WATERMARK_TIMEOUT_S: Final = 5.0

log = structlog.get_logger("tidegate.projector")


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic as the broker describes it; `topic_id` is empty where the broker gives none."""

    topic_id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the broker; `error` instead of an answer when there was none."""

    at_ms: int
    error: str | None = None
    topics: Mapping[str, TopicSeen] = field(default_factory=dict)
    backlog: tuple[PartitionBacklog, ...] = ()
    group_state: str = ""
    group_members: int | None = None
    cluster_id: str = ""
    brokers: tuple[str, ...] = ()
    #: By role, the offsets its group has committed, by topic and partition.
    roles: Mapping[str, Mapping[tuple[str, int], int]] = field(default_factory=dict)


class BrokerWatch:
    """Samples the broker every two seconds until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kafka = settings.kafka
        self._stop = threading.Event()
        self._latest: Sample | None = None
        self._ends: dict[Any, int] = {}
        self._roles: dict[str, dict[tuple[str, int], int]] = {}
        self._roles_due = 0.0
        self._thread = threading.Thread(target=self._run, name="broker-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, without waiting for a broker that does not answer."""
        self._stop.set()
        self._thread.join(timeout=2)

    @property
    def latest(self) -> Sample | None:
        """The last look; None before the first."""
        return self._latest

    def _run(self) -> None:
        from kafka import KafkaAdminClient, KafkaConsumer

        while not self._stop.is_set():
            try:
                # A client whose constructor fails leaves its thread and sockets behind, and its
                # reason in a log: ask first.
                check_broker(self._kafka)
                config = kafka_python_config(self._kafka) | {"bootstrap_timeout_ms": 5000}
                with (
                    contextlib.closing(KafkaAdminClient(**config)) as admin,
                    contextlib.closing(
                        KafkaConsumer(
                            **config,
                            enable_auto_commit=False,
                            auto_offset_reset="latest",
                            # A fetch here only asks for the high watermark.
                            fetch_max_wait_ms=1,
                            max_partition_fetch_bytes=1,
                        )
                    ) as consumer,
                ):
                    while not self._stop.is_set():
                        self._latest = self._sample(admin, consumer)
                        self._stop.wait(_INTERVAL_S)
            except Exception as exc:  # noqa: BLE001 - whatever the client raises, the watch goes on
                reason = exc.message if isinstance(exc, BrokerError) else reason_of(exc)
                log.debug("broker away", reason=reason)
                self._latest = Sample(_now_ms(), error=reason)
                self._stop.wait(_INTERVAL_S)

    def _sample(self, admin: Any, consumer: Any) -> Sample:
        prefix = self._kafka.topic_prefix
        names = [topic.full_name(prefix) for topic in (POSTS, *READ_TOPICS)]
        described = {topic["name"]: topic for topic in admin.describe_topics(names)}
        topics = {
            name: TopicSeen(
                str(topic.get("topic_id") or ""),
                tuple(sorted(p["partition_index"] for p in topic["partitions"])),
            )
            for name, topic in described.items()
            if topic.get("partitions")
        }
        cluster = admin.describe_cluster()
        posts = topics.get(names[0])
        backlog: tuple[PartitionBacklog, ...] = ()
        if posts is not None:
            backlog = self._backlog(admin, consumer, names[0], posts.partitions)
        group_state, group_members = self._group(admin)
        return Sample(
            _now_ms(),
            topics=topics,
            backlog=backlog,
            group_state=group_state,
            group_members=group_members,
            cluster_id=str(cluster.get("cluster_id") or ""),
            brokers=tuple(f"{b['host']}:{b['port']}" for b in cluster.get("brokers", ())),
            roles=self._committed_by_roles(admin),
        )

    def _committed_by_roles(self, admin: Any) -> Mapping[str, Mapping[tuple[str, int], int]]:
        """What the groups of the roles after labelling have committed, now or a moment ago."""
        from kafka.errors import KafkaError

        if time.monotonic() >= self._roles_due:
            self._roles_due = time.monotonic() + _ROLES_S
            groups = {group["group_id"] for group in admin.list_groups()}
            ours = {g: role for g in groups if (role := role_of(g, self._settings)) is not None}
            found = {}
            for group, role in ours.items():
                try:
                    offsets = admin.list_group_offsets({group: None})[group]
                except (KafkaError, KeyError):
                    continue  # it was deleted meanwhile
                found[role] = {
                    (p.topic, p.partition): at.offset for p, at in offsets.items() if at.offset >= 0
                }
            self._roles = found
        return self._roles

    def _backlog(
        self, admin: Any, consumer: Any, topic: str, numbers: tuple[int, ...]
    ) -> tuple[PartitionBacklog, ...]:
        from kafka import TopicPartition

        partitions = [TopicPartition(topic, number) for number in numbers]
        first = consumer.beginning_offsets(partitions)
        ends = self._high_watermarks(consumer, partitions)
        committed = self._committed(admin, topic)
        return tuple(
            PartitionBacklog(
                p.partition,
                ends[p],
                committed.get(p.partition),
                max(ends[p] - max(committed.get(p.partition, 0), first[p]), 0),
            )
            for p in partitions
        )

    def _high_watermarks(self, consumer: Any, partitions: list[Any]) -> dict[Any, int]:
        """Where partitions end, from a fetch: `stream.kafka.offsets` says why not from ListOffsets."""
        consumer.assign(partitions)
        for partition in partitions:
            if partition in self._ends:
                consumer.seek(partition, self._ends[partition])
            else:
                consumer.seek_to_end(partition)
        found: dict[Any, int] = {}
        deadline = time.monotonic() + _WATERMARK_TIMEOUT_S
        while len(found) < len(partitions):
            if time.monotonic() > deadline or self._stop.is_set():
                raise BrokerError("the broker does not tell where the partitions of `posts` end")
            consumer.poll(timeout_ms=50)
            for partition in partitions:
                watermark = consumer.highwater(partition)
                if watermark is not None and partition not in found:
                    found[partition] = watermark
                    consumer.pause(partition)
        consumer.unsubscribe()
        self._ends = found
        return found

    def _committed(self, admin: Any, topic: str) -> dict[int, int]:
        from kafka.errors import KafkaError

        try:
            offsets = admin.list_group_offsets({self._kafka.group: None})[self._kafka.group]
        except (KafkaError, KeyError):
            return {}  # no worker has ever joined
        return {
            p.partition: at.offset
            for p, at in offsets.items()
            if p.topic == topic and at.offset >= 0
        }

    def _group(self, admin: Any) -> tuple[str, int | None]:
        """The workers' group: its state, and how many belong to it where the broker tells."""
        from kafka.errors import KafkaError

        name = self._kafka.group
        try:
            group = admin.describe_groups([name])[name]
        except (KafkaError, KeyError):
            return "", None
        except ValueError:
            # kafka-python cannot read the embedded broker's answer; its list of groups it can.
            groups = {group["group_id"]: group for group in admin.list_groups()}
            return str(groups.get(name, {}).get("group_state") or ""), None
        return str(group.get("group_state") or ""), len(group.get("members", ()))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
