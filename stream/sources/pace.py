"""Lets items pass at a steady rate, however they arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

#: Items that fall due within this time pass together.
_STEP_S = 0.02
#: A source that stalled for longer is not caught up with.
_BEHIND_S = 1.0
T = TypeVar("T")


class Pace:
    """Spreads items over time.

    Args:
        rate: items a second; None lets everything pass at once.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next_s = 0.0  # when the next item is due

    async def slices(self, items: Sequence[T]) -> AsyncIterator[Sequence[T]]:
        """The items in order, in slices, each when it is due."""
        if self._rate is None:
            yield items
            return
        start = 0
        while start < len(items):
            now = time.monotonic()
            if now - self._next_s > _BEHIND_S:
                self._next_s = now
            if self._next_s > now:
                await asyncio.sleep(max(_STEP_S, self._next_s - now))
                continue
            due = int((now - self._next_s) * self._rate) + 1
            piece = items[start : start + due]
            self._next_s += len(piece) / self._rate
            start += len(piece)
            yield piece
