"""Nothing comes where something should: sources that stopped, connections that give nothing useful."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from stream.aggregates.merge import ALL
from stream.alerts.reading import Reading
from stream.alerts.rules import SilenceRule
from stream.alerts.store import Store
from stream.alerts.threshold import present

#: How fast the usual rate of a group follows what comes: an hour.
_MEMORY_S: Final = 3600.0


class Heard(msgspec.Struct):
    """When a group was last heard, and how much usually comes of it.

    `rate` is posts a second, averaged over `weight` seconds that count less the older they are;
    it rests while the group is silent. `idle` counts posts that came and were not useful.
    """

    last: int
    rate: float = 0.0
    weight: float = 0.0
    idle: int = 0


def silence_readings(
    rule: SilenceRule,
    windows: Store,
    tick: int,
    active: Iterable[str],
    *,
    heard: dict[str, Heard],
    began: int,
) -> dict[str, Reading]:
    """Every group that was heard or is named.

    Args:
        rule: the rule.
        windows: the metrics.
        tick: the end of the window that is looked at.
        active: groups in an episode.
        heard: what is known of each group; brought up to `tick` here.
        began: since when anybody listens: a named group that never came is missed from then on.
    """
    for group in present(rule, windows, tick):
        _hear(rule, windows, tick, group, heard.setdefault(group, Heard(began)))
    for group in rule.only or ({ALL} if rule.by == ALL else set()):
        heard.setdefault(group, Heard(began))
    readings = {}
    for group, known in list(heard.items()):
        silent_s = tick - known.last
        named = group in rule.only
        if silent_s > rule.forget_s and not named:
            del heard[group]
            continue
        readings[group] = _reading(rule, known, silent_s, named=named)
    gone = Reading(breach=False, clear=True)
    return {**dict.fromkeys(active, gone), **readings}


def _hear(rule: SilenceRule, windows: Store, tick: int, group: str, known: Heard) -> None:
    """Take in the windows since the group was last heard, those that came late among them."""
    since = max(tick - rule.window_s, known.last)
    posts, useful, last = 0, 0, known.last
    for window in windows.series(rule.width_s, rule.by, group, since=since, until=tick):
        wanted = window.posts - (window.unsupported if rule.of == "useful" else 0)
        if wanted > 0:
            posts, useful, last = 0, useful + wanted, window.key.end
        else:
            posts += window.posts
    known.idle = posts
    if last > known.last:
        # The average of the time up to now, silence included: a burst a day is no rate.
        passed = float(last - known.last)
        fade = math.exp(-passed / _MEMORY_S)
        weight = known.weight * fade + passed
        known.rate = (known.rate * known.weight * fade + useful) / weight
        known.weight, known.last = weight, last


def _reading(rule: SilenceRule, known: Heard, silent_s: int, *, named: bool) -> Reading:
    expected = known.rate * silent_s
    missed = silent_s >= rule.hold_s and (
        known.idle >= rule.min_posts
        if rule.of == "useful"
        # A rate is known when it was heard for half as long as it is now missed.
        else named
        or (2 * known.weight >= rule.hold_s and known.rate * rule.hold_s >= rule.min_posts)
    )
    return Reading(
        breach=missed,
        clear=silent_s < rule.hold_s,
        observed=0.0,
        expected=round(expected, 1),
        posts=known.idle if rule.of == "useful" else 0,
        strength=expected,
        since=known.last,
    )
