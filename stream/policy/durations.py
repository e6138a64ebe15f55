"""Durations as rules write them: `90s`, `5m`, `24h`, `7d`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: A window longer than this would have to be remembered that long.
LONGEST_S: Final = 30 * 86_400


# Kept: a condition asks with the same few words for every post.
@lru_cache(maxsize=256)
def seconds_of(text: str) -> int:
    """The seconds of a duration.

    Raises:
        ValueError: it is none; the message says why.
    """
    found = re.fullmatch(r"(\d{1,9})\s*([smhd])", text.strip())
    if found is None:
        raise ValueError(f"`{text}` is not a duration")
    seconds = int(found[1]) * _UNITS[found[2]]
    if not 1 <= seconds <= LONGEST_S:
        raise ValueError(f"`{text}` is not between 1 second and 30 days")
    return seconds


def shown(seconds: int) -> str:
    """The duration in its largest whole unit."""
    for unit in ("d", "h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
