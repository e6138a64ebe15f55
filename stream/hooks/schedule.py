"""When a failed delivery is tried again, and what `Retry-After` asks for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds before the first attempt, the second, ...: the schedule of Standard Webhooks, three days
#: in all, well inside the retention of the topics (7 days).
DEFAULT_SCHEDULE: Final = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: A receiver that asks for more than this asks for being forgotten.
_MOST_RETRY_AFTER_S: Final = 24 * 3600.0
#: Of the delay, up and down: many records that failed together do not come back together.
JITTER: Final = 0.1


def delay_s(schedule: Sequence[float], step: int, spread: Callable[[], float]) -> float | None:
    """Seconds until attempt `step` (0 is the first); None: the schedule is over.

    Args:
        schedule: seconds before each attempt.
        step: which attempt.
        spread: gives numbers of [0, 1).
    """
    if step >= len(schedule):
        return None
    return schedule[step] * (1 + JITTER * (2 * spread() - 1))


def patience_s(schedule: Sequence[float]) -> float:
    """How long a record is kept for a target that is not even tried: the schedule, and an hour.

    The hour is for what attempts take, and so that with a short schedule a short outage does not
    mean that everything is given up.
    """
    return sum(schedule) * (1 + JITTER) + 3600


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number or a date; None where it is neither.

    A date in the past is 0, and nothing is more than a day.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    if seconds != seconds:  # noqa: PLR0124 - NaN
        return None
    return min(max(0.0, seconds), _MOST_RETRY_AFTER_S)
