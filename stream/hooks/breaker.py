"""A circuit breaker: a target that fails again and again is left alone, then tried with one.

closed --failures in a row--> open --time--> half-open --success--> closed
^----------------failure-----------------'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class Breaker:
    """The state; times are seconds, by whatever clock the caller uses.

    Args:
        failures: so many in a row open it.
        open_s: how long it stays open the first time; doubled with every failed trial.
        most_open_s: and never longer than this.
    """

    failures: int
    open_s: float
    most_open_s: float
    failed: int = 0
    open_until: float | None = None
    _next_open_s: float = 0.0

    def state(self, now: float) -> Literal["closed", "open", "half-open"]:
        """Whether anything may be sent: all, nothing, or one to try."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half-open"

    def success(self) -> bool:
        """The target took something; True where that closes the breaker."""
        closes, self.open_until = self.open_until is not None, None
        self.failed, self._next_open_s = 0, self.open_s
        return closes

    def failure(self, now: float) -> bool:
        """The target failed; True where that opens the breaker, or keeps it open."""
        self.failed += 1
        if self.open_until is None and self.failed < self.failures:
            return False
        if self.open_until is not None and now < self.open_until:
            return False  # sent before it opened
        span_s = self._next_open_s or self.open_s
        self._next_open_s = min(2 * span_s, self.most_open_s)
        self.open_until = now + span_s
        return True
