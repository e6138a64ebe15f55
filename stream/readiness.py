"""What must be true before a role may start: broker, topics, partition counts.

Asked once at the start, so that what is wrong is said in a sentence instead of being retried.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.states import TopicLayout
from stream.settings import KafkaSettings
from stream.topics import DEAD_LETTERS, LABELS, POSTS, Topic


def output_limits(
    kafka: KafkaSettings,
    reads: Sequence[Topic] = (POSTS,),
    writes: Sequence[Topic] = (LABELS, DEAD_LETTERS),
) -> dict[str, int]:
    """By full name, the largest batch in bytes that each output topic takes.

    Topics about which the broker does not tell are left out.

    Raises:
        BrokerError: the broker cannot be used, a topic is missing, or the partition counts differ.
    """
    topics = tuple(dict.fromkeys((*reads, *writes)))
    with open_admin(kafka) as admin:
        layouts = admin.layout(topics)
    names = {topic: topic.full_name(kafka.topic_prefix) for topic in topics}
    missing = [name for name in names.values() if name not in layouts]
    if missing:
        shown = ", ".join(f"`{name}`" for name in missing)
        raise BrokerError(
            f"no such topic: {shown}",
            where=kafka.bootstrap,
            hint="`tidegate topics create` makes them; is `kafka.topic_prefix` right?",
        )
    _same_partitions(kafka, reads, writes, layouts)
    outputs = [names[topic] for topic in writes]
    return {name: limit for name in outputs if (limit := layouts[name].max_batch_bytes) is not None}


def _same_partitions(
    kafka: KafkaSettings,
    reads: Sequence[Topic],
    writes: Sequence[Topic],
    layouts: dict[str, TopicLayout],
) -> None:
    """What goes from a partition to the same number, or is read with it, must have that number."""
    partitioned = [topic for topic in reads if topic.partitioned]
    if not partitioned:
        return
    first, *others = partitioned
    source = first.full_name(kafka.topic_prefix)
    wanted = layouts[source].partitions
    for topic in (*others, *(topic for topic in writes if topic.partitioned)):
        name = topic.full_name(kafka.topic_prefix)
        found = layouts[name].partitions
        if found < wanted:
            raise BrokerError(
                f"`{source}` has {wanted} partitions, `{name}` only {found}",
                where=kafka.bootstrap,
                hint=f"a {topic.record.__name__.lower()} goes to the partition number of its "
                f"{first.record.__name__.lower()}: add partitions to `{name}` with your Kafka's "
                "own tool",
            )
        if topic in reads and found > wanted:
            raise BrokerError(
                f"`{source}` has {wanted} partitions, `{name}` has {found}",
                where=kafka.bootstrap,
                hint="the two are read side by side: add partitions to "
                f"`{source}` with your Kafka's own tool",
            )
