"""How CPython is set up in the processes that move posts."""

from __future__ import annotations

import gc
import sys
from typing import Final

_SWITCH_INTERVAL_S: Final = 0.05


def tune_interpreter() -> None:
    """Settings of CPython for a process that moves many small objects through several threads."""
    # What was made so far stays: the collector need not look at it for every generation.
    gc.collect()
    gc.freeze()
    # Batches are many objects and no cycles: the default of 700 looks at them hundreds of times.
    gc.set_threshold(50_000, 20, 50)
    # A thread that computes a batch gives the interpreter away by itself every few milliseconds;
    # taking it away every 5 ms costs a fifth of the throughput (docs/performance.md).
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
