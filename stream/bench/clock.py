"""What a run took, on the clock and of the processor."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds on the clock, and of processor time in all threads of the processes."""

    seconds: float
    cpu_s: float


class Clock:
    """Runs from its making, or from the last `restart`, to `spent`.

    Args:
        beside: processes whose processor time counts, too; on Linux only.
    """

    def __init__(self, beside: Sequence[int] = ()) -> None:
        self._beside = beside
        self.restart()

    def restart(self) -> None:
        """Begin now."""
        self._begun = time.perf_counter()
        self._busy = self._processor_s()

    def spent(self) -> Spent:
        """What has gone since."""
        return Spent(time.perf_counter() - self._begun, self._processor_s() - self._busy)

    def _processor_s(self) -> float:
        return time.process_time() + sum(_seconds_of(pid) for pid in self._beside)


def _seconds_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
