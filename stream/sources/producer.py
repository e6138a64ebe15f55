"""A producer that confirms what it sends, on every broker that we run on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Final

from stream.errors import BrokerError
from stream.kafka.client import aiokafka_config, reason_of
from stream.kafka.closing import closed
from stream.settings import KafkaSettings

_BATCH_BYTES: Final = 256 * 1024


async def started_producer(kafka: KafkaSettings) -> Any:
    """Aiokafka's producer, started; idempotent where the broker knows how, the embedded one does not.

    Raises:
        BrokerError: the broker cannot be used.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaConnectionError, KafkaError

    config = {**aiokafka_config(kafka), "acks": "all", "max_batch_size": _BATCH_BYTES}
    for idempotent in (True, False):
        producer = AIOKafkaProducer(**config, enable_idempotence=idempotent)
        try:
            with _quiet("aiokafka.producer.sender") if idempotent else contextlib.nullcontext():
                await producer.start()
        except KafkaError as exc:
            await closed(producer.stop())
            if idempotent and not isinstance(exc, KafkaConnectionError):
                continue
            raise BrokerError(
                f"the broker cannot be used: {reason_of(exc)}",
                where=kafka.bootstrap,
                hint="`tidegate doctor` looks for the reason",
            ) from exc
        return producer
    raise AssertionError("the second try returns or raises")


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """The library logs as an error what is only an answer to our question."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
