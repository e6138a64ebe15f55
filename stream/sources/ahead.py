"""Makes items in a thread of its own, ahead of who takes them: another thread or an event loop.

The threads are daemons: a read that blocks on stdin never keeps the process from ending. What is
made ahead is bounded. An error comes after the items that preceded it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

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


def made_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, made one ahead in a thread."""
    with contextlib.closing(_Maker(items)) as maker:
        while not isinstance(item := maker.take(None), _End):
            yield item
        if item.error is not None:
            raise item.error


def made_ahead_or_idle(items: Iterable[T], idle_s: float) -> Iterator[T | None]:
    """As `made_ahead`, and None whenever no item came for `idle_s`."""
    with contextlib.closing(_Maker(items)) as maker:
        while True:
            try:
                item = maker.take(idle_s)
            except queue.Empty:
                yield None
                continue
            if not isinstance(item, _End):
                yield item
                continue
            if item.error is not None:
                raise item.error
            return


class _End(NamedTuple):
    error: BaseException | None


class _Maker(Generic[T]):
    """A thread that iterates, until it is closed."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._ready: queue.Queue[T | _End] = queue.Queue(1)
        self._closed = threading.Event()
        threading.Thread(target=self._make, daemon=True).start()

    def take(self, timeout_s: float | None) -> T | _End:
        return self._ready.get(timeout=timeout_s)

    def close(self) -> None:
        self._closed.set()

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as exc:  # noqa: BLE001 - raised again by who takes the items
            self._put(_End(exc))
        else:
            self._put(_End(None))

    def _put(self, item: T | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
