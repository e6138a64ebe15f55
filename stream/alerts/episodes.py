"""When an episode begins and ends: hold, hysteresis, cool-down, quiet hours, and not too many.

Invariant: at most one episode is open per rule and group; one that opened closes before another
opens, whatever was published before a restart included (`History`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from stream.alerts.history import History, written
from stream.alerts.reading import NOTHING, SEVERAL, Reading
from stream.alerts.rules import Rule
from stream.alerts.state import Standing


@dataclass(frozen=True, slots=True)
class Transition:
    """An episode that begins or ends at this tick."""

    state: Literal["firing", "resolved"]
    group: str
    alert_id: str
    started: int
    reading: Reading
    worst: float | None


class Episodes:
    """The standings of all rules and groups, moved tick by tick.

    Args:
        standings: where they are kept.
        history: what has been published already.
    """

    def __init__(self, standings: dict[tuple[str, str], Standing], history: History) -> None:
        self.standings = standings
        self._history = history

    def active(self, rule: Rule) -> set[str]:
        """The groups of a rule that are in an episode, their own or a shared one."""
        return {
            group
            for (of, group), standing in self.standings.items()
            if of == rule.id and standing.active and group != SEVERAL
        }

    def step(
        self, rule: Rule, readings: Mapping[str, Reading], tick: int, *, quiet: bool
    ) -> list[Transition]:
        """What this tick changes for one rule.

        Args:
            rule: the rule.
            readings: of every group that is there, and of every one that is active.
            tick: seconds since the epoch.
            quiet: nothing may fire now.
        """
        moved: list[Transition] = []
        ready: list[tuple[str, Reading]] = []
        # Who was about to breach and sends nothing any more is not about to breach.
        waiting = {group for (of, group) in self.standings if of == rule.id and group != SEVERAL}
        known = {**dict.fromkeys(waiting, NOTHING), **readings}
        for group in sorted(known):
            reading = known[group]
            standing = self.standings.setdefault((rule.id, group), Standing())
            _note(standing, reading, tick)
            if standing.active:
                if self._over(rule, group, standing, tick):
                    moved += _close(group, standing, reading, tick)
            elif self._due(rule, standing, tick) and not quiet:
                ready.append((group, reading))
        ready.sort(key=lambda item: (-item[1].strength, item[0]))
        room = 0 if rule.together else rule.most - self._open(rule)
        for group, reading in ready:
            standing = self.standings[rule.id, group]
            if room <= 0:
                # Never published, so never decided: whoever comes after a restart finds it again.
                standing.shared = True
            elif not self._history.decided((rule.id, group), tick):
                moved.append(self._begin(rule, group, standing, reading, tick))
                room -= 1
        moved += self._step_shared(rule, known, tick, quiet=quiet)
        for key in [(rule.id, group) for group in [*known, SEVERAL]]:
            standing_now = self.standings.get(key)
            if standing_now is not None and standing_now.idle(rule.cool_down_s, tick):
                del self.standings[key]
        return moved

    def _step_shared(
        self, rule: Rule, readings: Mapping[str, Reading], tick: int, *, quiet: bool
    ) -> list[Transition]:
        """The alert that speaks for all groups that are in `shared`."""
        groups = {
            group: readings.get(group, NOTHING)
            for (of, group), standing in self.standings.items()
            if of == rule.id and standing.shared
        }
        key = (rule.id, SEVERAL)
        if not groups and key not in self.standings:
            return []
        ranked = sorted(groups.items(), key=lambda item: (-item[1].strength, item[0]))
        worst = ranked[0][1] if ranked else NOTHING
        reading = replace(
            worst,
            breach=bool(ranked),
            clear=not ranked,
            groups=tuple(group for group, _ in ranked),
            since=None,
        )
        standing = self.standings.setdefault(key, Standing())
        _note(standing, reading, tick)
        if standing.alert_id is not None:
            over = not ranked and not self._history.decided(key, tick)
            return _close(key[1], standing, reading, tick) if over else []
        cooling = (
            standing.resolved_at is not None and tick < standing.resolved_at + rule.cool_down_s
        )
        if not ranked or quiet or cooling or self._history.decided(key, tick):
            return []
        return [self._begin(rule, key[1], standing, reading, tick)]

    def _due(self, rule: Rule, standing: Standing, tick: int) -> bool:
        """Whether an episode may open now, its own or a shared one."""
        since = standing.breach_since
        if since is None:
            return False
        # What a silence rule holds for is in its readings already: it knows when it was last heard.
        held = rule.kind == "silence" or tick - since >= rule.hold_s
        cooling = (
            standing.resolved_at is not None and tick < standing.resolved_at + rule.cool_down_s
        )
        return held and not cooling

    def _over(self, rule: Rule, group: str, standing: Standing, tick: int) -> bool:
        since = standing.clear_since
        # Of its part in a shared episode nothing is published: only its own is decided by that.
        told = standing.alert_id is not None
        if since is None or (told and self._history.decided((rule.id, group), tick)):
            return False
        return tick - since >= rule.resolve_after_s

    def _open(self, rule: Rule) -> int:
        return sum(
            of == rule.id and standing.alert_id is not None and group != SEVERAL
            for (of, group), standing in self.standings.items()
        )

    def _begin(
        self, rule: Rule, group: str, standing: Standing, reading: Reading, tick: int
    ) -> Transition:
        first = standing.breach_since if standing.breach_since is not None else tick
        # The window that made it breach is the last of its first tick.
        standing.started = reading.since if reading.since is not None else first - rule.step_s
        standing.alert_id = alert_id(rule.id, group, standing.started)
        standing.clear_since = None
        standing.seen = reading.observed
        return Transition(
            "firing", group, standing.alert_id, standing.started, reading, reading.observed
        )


def _close(group: str, standing: Standing, reading: Reading, tick: int) -> list[Transition]:
    told, begun, worst = standing.alert_id, standing.started, standing.seen
    standing.alert_id = standing.breach_since = standing.clear_since = standing.seen = None
    standing.shared = False
    standing.resolved_at = tick
    if told is None:
        return []
    return [Transition("resolved", group, told, begun, reading, worst)]


def alert_id(rule: str, group: str, started: int) -> str:
    """The id of an episode: rule, group and beginning, and nothing else."""
    return f"{rule}/{group}/{written(started)}"


def _note(standing: Standing, reading: Reading, tick: int) -> None:
    """Since when it breaches, since when it is clear, how bad it was."""
    if reading.breach:
        if standing.breach_since is None:
            standing.breach_since = tick
    elif not standing.active:
        standing.breach_since = None
    if not reading.clear:
        standing.clear_since = None
    elif standing.active and standing.clear_since is None:
        standing.clear_since = tick
    if standing.active and reading.observed is not None and standing.seen is not None:
        # Away from the calm side: a rule that looks for less remembers the least.
        worse = min if reading.strength < 0 else max
        standing.seen = worse(standing.seen, reading.observed)
