"""Any range of time for the pages that look back, and the steps a chart of it has.

Invariant: a period ends at most one short step after the moment it was asked for, so that it can be
compared with the period of the same length before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

#: Name of a period to (seconds it covers, seconds a step).
PERIODS: Final = {
    "1 h": (3600, 60),
    "6 h": (6 * 3600, 300),
    "24 h": (86_400, 900),
    "7 d": (7 * 86_400, 2 * 3600),
    "30 d": (30 * 86_400, 6 * 3600),
}
CUSTOM: Final = "Custom"
_COARSE_S: Final = 300
_STEPS_S: Final = (300, 900, 3600, 2 * 3600, 6 * 3600, 86_400, 7 * 86_400)
_MOST_STEPS: Final = 150


@dataclass(frozen=True, slots=True)
class Period:
    """From (inclusive) to (exclusive), in seconds since the epoch, and the width of a step."""

    from_s: int
    to_s: int
    step_s: int
    name: str

    @property
    def length_s(self) -> int:
        """How long it is."""
        return self.to_s - self.from_s

    @property
    def before(self) -> str:
        """The period it is compared with, in words."""
        return f"the {self.name} before"

    def words(self) -> str:
        """From when to when."""
        return f"{_minute(self.from_s)} to {_minute(self.to_s)} UTC"


def period(name: str, now_s: int) -> Period:
    """The period of `PERIODS` that ends now."""
    length, step = PERIODS[name]
    short = min(step, _COARSE_S)
    to_s = -(-now_s // short) * short
    return Period(to_s - length, to_s, step, name)


def custom_period(from_at: datetime, to_at: datetime, now_s: int) -> Period:
    """The period between two times, in steps of at least five minutes and at most 150 of them."""
    from_s, to_s = (int(at.replace(tzinfo=UTC).timestamp()) for at in sorted((from_at, to_at)))
    to_s = -(-min(to_s, now_s) // _COARSE_S) * _COARSE_S
    from_s = min(from_s - from_s % _COARSE_S, to_s - _COARSE_S)
    length = to_s - from_s
    step = next((s for s in _STEPS_S if length <= s * _MOST_STEPS), _STEPS_S[-1])
    return Period(from_s, to_s, step, _length(length))


def _length(seconds: int) -> str:
    for unit, width in (("d", 86_400), ("h", 3600)):
        if seconds % width == 0:
            return f"{seconds // width:,} {unit}"
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds // 60} min"


def _minute(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M}"
