"""What must be true before a worker may start: broker, topics, partition counts.

Asked once at the start, so that what is wrong is said in a sentence instead of being retried.
"""

from __future__ import annotations

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.settings import KafkaSettings
from stream.topics import DEAD_LETTERS, LABELS, POSTS


def output_limits(kafka: KafkaSettings) -> dict[str, int]:
    """By full name, the largest batch in bytes that each output topic takes.

    Topics about which the broker does not tell are left out.

    Raises:
        BrokerError: the broker cannot be used, a topic is missing, or the partition counts differ.
    """
    with open_admin(kafka) as admin:
        layouts = admin.layout((POSTS, LABELS, DEAD_LETTERS))
    posts, *outputs = (t.full_name(kafka.topic_prefix) for t in (POSTS, LABELS, DEAD_LETTERS))
    missing = [name for name in (posts, *outputs) if name not in layouts]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise BrokerError(
            f"no such topic: {names}",
            where=kafka.bootstrap,
            hint="`tidegate topics create` makes them; is `kafka.topic_prefix` right?",
        )
    for name in outputs:
        if layouts[name].partitions < layouts[posts].partitions:
            raise BrokerError(
                f"`{posts}` has {layouts[posts].partitions} partitions, "
                f"`{name}` only {layouts[name].partitions}",
                where=kafka.bootstrap,
                hint="a label goes to the partition number of its post: add partitions to "
                f"`{name}` with your Kafka's own tool",
            )
    return {name: limit for name in outputs if (limit := layouts[name].max_batch_bytes) is not None}
