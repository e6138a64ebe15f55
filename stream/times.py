"""Times as records hold them and as people write them, read; `stream.records.rfc3339` writes them.

A time without a zone is UTC, wherever it comes from.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from stream.errors import ConfigError

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_UNITS_S: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


def moment_of(text: str) -> datetime:
    """The time that a text says.

    Raises:
        ValueError: it says none.
    """
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def moment_or_never(text: str) -> datetime:
    """As `moment_of`; the beginning of all time where the text says none."""
    try:
        return moment_of(text)
    except ValueError:
        return _NEVER


def timestamp_ms(text: str) -> int:
    """Milliseconds since the epoch; at once for a time as our own records have it.

    Raises:
        ValueError: the text says no time.
    """
    if len(text) == 24 and text[19] == "." and text[23] == "Z":
        return _second(text[:19]) * 1000 + int(text[20:23])
    return round(moment_of(text).timestamp() * 1000)


# Kept: posts of a flood share their second.
@lru_cache(maxsize=1024)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def since(text: str, now: datetime) -> datetime:
    """What a person means with `2h` (so long before `now`) or with a date and time.

    Raises:
        ConfigError: it is neither.
    """
    if span := re.fullmatch(r"(\d+)\s*(s|min|m|h|d)", text.strip()):
        with contextlib.suppress(OverflowError):
            return now - timedelta(seconds=int(span[1]) * _UNITS_S[span[2]])
    try:
        return moment_of(text.strip())
    except ValueError as exc:
        raise ConfigError(
            f"`{text}` is no time", hint="write 30min, 2h, 7d or 2026-11-22T10:00:00Z"
        ) from exc
