"""Reads a source in a thread of its own, a few batches ahead of the event loop.

The thread is a daemon: a read that blocks on stdin never keeps the process from ending. What it
holds is bounded by `_AHEAD` batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_AHEAD = 4
T = TypeVar("T")


async def read_ahead(batches: Iterable[list[T]]) -> AsyncIterator[list[T]]:
    """The batches, read in a thread; an error of the source comes after what preceded it."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[list[T] | Exception | None] = asyncio.Queue(_AHEAD)
    stopped = threading.Event()

    def read() -> None:
        end: Exception | None = None
        # The loop may be gone when a blocked read returns: then nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            try:
                for batch in batches:
                    asyncio.run_coroutine_threadsafe(queue.put(batch), loop).result()
                    if stopped.is_set():
                        return
            except Exception as exc:  # noqa: BLE001 - raised again where it can be handled
                end = exc
            asyncio.run_coroutine_threadsafe(queue.put(end), loop).result()

    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        while not queue.empty():  # lets a thread that waits for room see that it is stopped
            queue.get_nowait()
