from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from stream.errors import DeliveryError
from stream.kafka.publisher import Publisher


def _publisher(**options: Any) -> Publisher:
    return Publisher(lambda: None, **options)


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
