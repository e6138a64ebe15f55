"""The catalogue's topics on a broker: create what is missing, look at what is there, measure lag.

Nothing here deletes or changes a topic. A topic that exists is left as it is; where it does not
fit the catalogue, `describe` says so under `problems`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from stream.errors import BrokerError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.offsets import offset_ranges
from stream.kafka.preflight import check_broker
from stream.kafka.states import (
    CreatedTopic,
    GroupLag,
    GroupMember,
    PartitionLag,
    PartitionState,
    TopicLayout,
    TopicState,
    problems_of,
)
from stream.settings import KafkaSettings
from stream.topics import CATALOGUE, Topic

_TOPIC_EXISTS = 36
_NOT_ENOUGH_BROKERS = 38
#: A young cluster answers "not yet" while it makes its own topics.
_COORDINATOR_TIMEOUT_S = 15.0
_T = TypeVar("_T")


class Admin:
    """Questions and orders to one broker; make it with `open_admin`.

    Args:
        kafka: the settings that name the broker, prefix, partition count and replication.
        client: kafka-python's admin client, connected.
    """

    def __init__(self, kafka: KafkaSettings, client: Any) -> None:
        self._kafka = kafka
        self._client = client

    def names(self) -> list[str]:
        """Every topic on the broker, ours or not, sorted."""
        names: list[str] = _explained(self._client.list_topics)
        return sorted(names)

    def create_missing(self, topics: Sequence[Topic] = CATALOGUE) -> list[CreatedTopic]:
        """Create the topics that are not there and wait until they can be used.

        Raises:
            BrokerError: the broker refuses one of them.
        """
        there = self._metadata(topics)
        wanted = {
            name: {
                "num_partitions": self._partitions(topic),
                "replication_factor": self._kafka.replication,
                "configs": topic.config(),
            }
            for topic in topics
            if (name := topic.full_name(self._kafka.topic_prefix)) not in there
        }
        raced: set[str] = set()
        if wanted:
            answer = _explained(lambda: self._client.create_topics(wanted, raise_errors=False))
            for result in answer["topics"]:
                self._accepted(result)
                if result["error_code"] == _TOPIC_EXISTS:  # somebody was faster
                    raced.add(result["name"])
            _explained(lambda: self._client.wait_for_topics(list(wanted)))
            there = self._metadata(topics)
        return [
            CreatedTopic(
                name=name, created=name in wanted and name not in raced, partitions=len(there[name])
            )
            for name in (topic.full_name(self._kafka.topic_prefix) for topic in topics)
        ]

    def describe(self, topics: Sequence[Topic] = CATALOGUE) -> list[TopicState]:
        """The topics as they are, with what does not fit."""
        metadata = self._metadata(topics)
        ranges = offset_ranges(
            self._kafka,
            [
                (name, part["partition_index"])
                for name, parts in metadata.items()
                for part in parts
                if part["leader_id"] >= 0
            ],
        )
        configs = self._configs(list(metadata))
        counts = {
            len(metadata[n]) for t in topics if t.partitioned and (n := self._name(t)) in metadata
        }
        states = []
        for topic in topics:
            name = self._name(topic)
            partitions = [
                PartitionState(
                    partition=part["partition_index"],
                    first=ranges.get((name, part["partition_index"]), (0, 0))[0],
                    end=ranges.get((name, part["partition_index"]), (0, 0))[1],
                    leader=part["leader_id"],
                    replicas=len(part["replica_nodes"]),
                    in_sync=len(part["isr_nodes"]),
                )
                for part in sorted(metadata.get(name, []), key=lambda p: p["partition_index"])
            ]
            config = configs.get(name, {})
            retention_ms = config.get("retention.ms")
            states.append(
                TopicState(
                    name=topic.name,
                    topic=name,
                    exists=name in metadata,
                    description=topic.description,
                    record=topic.record.__name__,
                    key=topic.key,
                    partitions=partitions,
                    records=sum(p.end - p.first for p in partitions),
                    retention_s=int(retention_ms) // 1000
                    if retention_ms not in (None, "-1")
                    else None,
                    cleanup=config.get("cleanup.policy"),
                    problems=problems_of(topic, name in metadata, partitions, config, counts),
                )
            )
        return states

    def layout(self, topics: Sequence[Topic] = CATALOGUE) -> dict[str, TopicLayout]:
        """By full name, those of the topics that exist; cheaper than `describe`."""
        metadata = self._metadata(topics)
        configs = self._configs(list(metadata))
        layouts = {}
        for name, partitions in metadata.items():
            limit = configs.get(name, {}).get("max.message.bytes")
            layouts[name] = TopicLayout(
                partitions=len(partitions), max_batch_bytes=None if limit is None else int(limit)
            )
        return layouts

    def lag(self, group: str | None = None, topics: Sequence[Topic] = CATALOGUE[:1]) -> GroupLag:
        """How far the group is behind in these topics; default: the workers' group in `posts`.

        A partition without a commit counts from its first record, where a new worker begins.
        """
        from kafka import TopicPartition

        group = group or self._kafka.group
        partitions = [
            (name, part["partition_index"])
            for name, parts in self._metadata(topics).items()
            for part in parts
        ]
        if not partitions:
            return GroupLag(group=group, lag=0, partitions=[])
        asked = {group: [TopicPartition(*partition) for partition in partitions]}
        committed = _explained(lambda: self._client.list_group_offsets(asked), patient=True)[group]
        # After the commits: asked before them, the end could lie behind a commit.
        ranges = offset_ranges(self._kafka, partitions)
        rows = []
        for topic, partition in sorted(partitions):
            first, end = ranges[topic, partition]
            answer = committed.get(TopicPartition(topic, partition))
            offset = answer.offset if answer is not None and answer.offset >= 0 else None
            start = first if offset is None else max(offset, first)
            rows.append(
                PartitionLag(
                    topic=topic,
                    partition=partition,
                    committed=offset,
                    end=end,
                    lag=max(0, end - start),
                )
            )
        return GroupLag(group=group, lag=sum(row.lag for row in rows), partitions=rows)

    def members(self, group: str | None = None) -> list[GroupMember]:
        """Who is in the group; default: the workers'.

        Raises:
            BrokerError: the broker does not tell: the embedded one does not.
        """
        group = group or self._kafka.group
        try:
            found = _explained(lambda: self._client.describe_groups([group]), patient=True)
        except ValueError as exc:  # the library cannot read the embedded broker's answer
            raise BrokerError("this broker does not tell who is in a group") from exc
        return [
            GroupMember(client=member["client_id"], host=member["client_host"].lstrip("/"))
            for member in found[group]["members"]
        ]

    def _name(self, topic: Topic) -> str:
        return topic.full_name(self._kafka.topic_prefix)

    def _partitions(self, topic: Topic) -> int:
        return self._kafka.partitions if topic.partitioned else 1

    def _metadata(self, topics: Sequence[Topic]) -> dict[str, list[dict[str, Any]]]:
        """Partitions of those of the topics that exist."""
        names = [self._name(topic) for topic in topics]
        found = _explained(lambda: self._client.describe_topics(names))
        return {topic["name"]: topic["partitions"] for topic in found if topic["error_code"] == 0}

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        from kafka.admin import ConfigResource, ConfigResourceType
        from kafka.errors import KafkaError

        # Every key: the embedded broker gives none when two are asked for by name.
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        try:
            found = self._client.describe_configs(asked, config_filter="all") if asked else {}
        except KafkaError:
            return {}  # not allowed, or a broker without this request: shown as unknown
        return {
            name: {key: entry["value"] for key, entry in entries.items()}
            for name, entries in found.get("topic", {}).items()
        }

    def _accepted(self, result: dict[str, Any]) -> None:
        from kafka.errors import NoError, for_code

        code = result["error_code"]
        if code in (NoError.errno, _TOPIC_EXISTS):
            return
        hint = None
        if code == _NOT_ENOUGH_BROKERS:
            hint = (
                f"`kafka.replication` is {self._kafka.replication}: set it to the number of brokers"
            )
        message = result.get("error_message") or for_code(code).description
        raise BrokerError(
            f"the broker does not create the topic: {message}", where=result["name"], hint=hint
        )


@contextlib.contextmanager
def open_admin(kafka: KafkaSettings) -> Iterator[Admin]:
    """An `Admin` for the broker of the settings.

    Raises:
        BrokerError: the broker cannot be used, with the reason.
    """
    from kafka import KafkaAdminClient

    check_broker(kafka)
    client = _explained(lambda: KafkaAdminClient(**kafka_python_config(kafka)))
    with contextlib.closing(client):
        yield Admin(kafka, client)


def _explained(action: Callable[[], _T], *, patient: bool = False) -> _T:
    """The action's result, with the library's errors as ours; `patient` waits for a coordinator."""
    from kafka.errors import AuthorizationError, KafkaError, RetriableError

    deadline = time.monotonic() + _COORDINATOR_TIMEOUT_S
    while True:
        try:
            return action()
        except AuthorizationError as exc:
            raise BrokerError(
                f"the broker does not allow it: {reason_of(exc)}",
                hint="the user of `kafka.username` needs an ACL for it",
            ) from exc
        except KafkaError as exc:
            if patient and isinstance(exc, RetriableError) and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise BrokerError(f"the broker does not answer as it should: {reason_of(exc)}") from exc
