"""Ends a Kafka client whose broker may be gone, and keeps the library quiet about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

_TIMEOUT_S: Final = 5.0


async def closed(stopping: Awaitable[None]) -> None:
    """Wait for a client's `stop()`, a few seconds at most, whatever comes of it.

    Without a broker aiokafka's `stop` may wait for ever, or raise the cancellation of its own tasks
    as if it were ours.
    """
    task = asyncio.ensure_future(stopping)
    _, late = await asyncio.wait({task}, timeout=_TIMEOUT_S)
    for unfinished in late:
        unfinished.cancel()
    if task.done() and not task.cancelled():
        task.exception()  # looked at, or asyncio logs it


def silence_clients() -> None:
    """For commands that say themselves what is wrong: the libraries log each of their retries."""
    for name in ("aiokafka", "kafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
