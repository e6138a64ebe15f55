"""From the dashboard to the topics: one record at a time, confirmed before anybody goes on.

Invariant: `write` returns when the broker has the record on all its replicas, and raises
`DeliveryError` otherwise; nothing is shown as done before.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Protocol

import msgspec

from stream.errors import BrokerError, DeliveryError
from stream.kafka.client import kafka_python_config, reason_of
from stream.kafka.preflight import check_broker
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import Topic


class Writer(Protocol):
    """Writes records; `TopicWriter` is one, `MemoryWriter` another."""

    def write(
        self, topic: Topic, key: bytes, record: msgspec.Struct, partition: int | None = None
    ) -> None:
        """Write a record, and return when the broker has confirmed it.

        Raises:
            DeliveryError: it has not.
        """
        ...


class TopicWriter:
    """Writes to Kafka; safe for many threads, one per process is enough."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._producer: Any = None

    def write(
        self, topic: Topic, key: bytes, record: msgspec.Struct, partition: int | None = None
    ) -> None:
        """See `Writer`."""
        from kafka.errors import KafkaError

        name = topic.full_name(self._kafka.topic_prefix)
        try:
            sending = self._connected().send(name, encode(record), key=key, partition=partition)
            sending.get(timeout=self._kafka.request_timeout_s)
        except (KafkaError, BrokerError, AssertionError) as exc:
            # kafka-python asserts that the topic has the partition.
            self.close()
            reason = exc.message if isinstance(exc, BrokerError) else reason_of(exc)
            raise DeliveryError(
                f"the broker did not confirm it: {reason}",
                where=name,
                hint="nothing was changed here: try again when the broker is back",
            ) from exc

    def _connected(self) -> Any:
        from kafka import KafkaProducer

        with self._lock:
            if self._producer is None:
                check_broker(self._kafka)
                self._producer = KafkaProducer(
                    **kafka_python_config(self._kafka), acks="all", linger_ms=0, max_block_ms=10_000
                )
            return self._producer

    def close(self) -> None:
        """Let the connection go; the next record makes another."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):  # it is being thrown away, whatever it says
                producer.close(timeout=1)


class MemoryWriter:
    """Keeps what is written: for tests, and for trying a page without a broker."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes, msgspec.Struct, int | None]] = []
        self.away = False

    def write(
        self, topic: Topic, key: bytes, record: msgspec.Struct, partition: int | None = None
    ) -> None:
        """See `Writer`."""
        if self.away:
            raise DeliveryError("the broker did not confirm it: no answer in time")
        self.written.append((topic.name, key, record, partition))
