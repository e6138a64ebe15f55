"""What a run took, on the clock and of the processor."""

from __future__ import annotations

import time
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds on the clock, and of processor time in all threads of the process."""

    seconds: float
    cpu_s: float


class Clock:
    """Runs from its making, or from the last `restart`, to `spent`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin now."""
        self._begun = time.perf_counter()
        self._busy = time.process_time()

    def spent(self) -> Spent:
        """What has gone since."""
        return Spent(time.perf_counter() - self._begun, time.process_time() - self._busy)
