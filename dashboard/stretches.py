"""A stretch of time as the fewest rollups: days, with hours and shorter ones at its ends. Pure.

Invariant: the parts lie side by side, none over another, so that what they count adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dashboard.projection import COARSE_S, FINE_S, WIDTHS_S
from dashboard.scope import Scope


class Part(NamedTuple):
    """Rollups of one width, from (inclusive) to (exclusive)."""

    width_s: int
    from_s: int
    to_s: int


def parts_of(from_s: int, to_s: int, widths_s: Sequence[int]) -> list[Part]:
    """The parts in order; a stretch begins with a whole rollup of the narrowest width.

    Args:
        from_s: begin.
        to_s: end; rollups that begin before it count.
        widths_s: of rollups, the narrowest first, each a multiple of the one before.
    """
    if from_s >= to_s:
        return []
    *narrower, width_s = widths_s
    if not narrower:
        return [Part(width_s, from_s - from_s % width_s, to_s)]
    first, last = -(-from_s // width_s) * width_s, to_s - to_s % width_s
    if first >= last:
        return parts_of(from_s, to_s, narrower)
    return [
        *parts_of(from_s, first, narrower),
        Part(width_s, first, last),
        *parts_of(last, to_s, narrower),
    ]


def widths_within(step_s: int) -> tuple[int, ...]:
    """The widths of rollups that steps of this length are made of, without the fine ones where others do."""
    found = tuple(width_s for width_s in WIDTHS_S if step_s % width_s == 0)
    return found if found == (FINE_S,) else found[1:]


#: What makes up any stretch that begins with a coarse rollup.
KEPT_WIDTHS_S = tuple(width_s for width_s in WIDTHS_S if width_s >= COARSE_S)


def counted(
    from_s: int, to_s: int, widths_s: Sequence[int], scope: Scope
) -> tuple[str, list[object]]:
    """What to select from, and its parameters: the rollups of a stretch, of a scope."""
    where, names = scope.where()
    parts = parts_of(from_s, to_s, widths_s) or [Part(widths_s[0], from_s, from_s)]
    sql = " UNION ALL ".join(
        "SELECT start_s, source, language, sentiment, toxicity, posts FROM rollups"  # noqa: S608  placeholders only
        f" WHERE width_s = ? AND start_s >= ? AND start_s < ?{where}"
        for _ in parts
    )
    return f"({sql}) AS counted", [value for part in parts for value in (*part, *names)]
