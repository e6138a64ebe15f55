"""What a rule sees of one group at one tick: the common form of all kinds of rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stream.aggregates.merge import ALL, Window
from stream.alerts.rules import Rule

#: The group of an alert that speaks for several: all of a rule's, or those beyond `most`.
SEVERAL: Final = "(several)"


@dataclass(frozen=True, slots=True)
class Reading:
    """One group at one tick.

    `breach` may fire, `clear` may resolve; between the two (hysteresis) all stays as it is.
    `strength` ranks breaches of one rule. `since` is when it began, where the kind knows that
    better than the first tick of the breach does. `window` is what examples are taken from.
    """

    breach: bool
    clear: bool
    observed: float | None = None
    expected: float | None = None
    threshold: float | None = None
    posts: int | None = None
    authors: int | None = None
    strength: float = 0.0
    since: int | None = None
    window: Window | None = None
    terms: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


#: Of a group about which nothing is known at this tick.
NOTHING = Reading(breach=False, clear=True)


def group_fields(rule: Rule, group: str) -> dict[str, str]:
    """The `group` field of an alert."""
    if rule.kind == "new-term" and group != ALL:
        return {rule.of: group}
    if rule.kind == "pipeline" and group != ALL:
        return {"part": group}
    return {} if group == ALL else {rule.by: group}


def group_of(fields: dict[str, str]) -> str:
    """The group that `group_fields` was given."""
    return next(iter(fields.values()), ALL)
