"""Metrics in, alerts out: evaluates every rule on the clock of the metrics.

    evaluator = Evaluator(rules)
    for metric in ...:
        for outcome in evaluator.add(metric):
            outcome.alert, outcome.evidence

Invariant: what comes out depends on the metrics that were there when a tick was due, on the
rules, and on what was published before (`History`), and on nothing else: no clock, no chance,
no order of metrics within a tick. A tick is due `grace_s` after its time, by the newest metric or
by `advance`; it is evaluated once. The pipeline's rules have ticks of their own (`watch`): a
pipeline that stands still brings no metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from stream.aggregates.merge import ALL
from stream.alerts.change import SEASON_HOURS, Candidate, Learnt, candidates, finished_hour, learn
from stream.alerts.episodes import Episodes, Transition
from stream.alerts.history import Clock, History, written
from stream.alerts.new_term import new_term_readings
from stream.alerts.reading import SEVERAL, Reading, group_fields
from stream.alerts.rules import (
    TICK_S,
    ChangeRule,
    NewTermRule,
    PipelineMeasure,
    PipelineRule,
    Rule,
    RuleSet,
    SilenceRule,
    ThresholdRule,
)
from stream.alerts.silence import silence_readings
from stream.alerts.state import Seasons, State
from stream.alerts.store import Store
from stream.alerts.threshold import pipeline_readings, threshold_readings
from stream.alerts.words import firing, resolved, unit_of
from stream.outcomes import ALERT_SCHEMA, Alert, Metric

_HOUR_S: Final = 3600
#: A longer stretch without any metric is stepped over: nothing can happen in it any more.
_LONGEST_GAP_S: Final = 7 * 86_400
#: An observation of the pipeline that is older tells nothing.
_OBSERVATION_S: Final = 60
_MOST_TERMS: Final = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where posts that show what an alert is about are found: time, group, and a word."""

    since: int
    until: int
    by: str
    group: str
    term: str | None
    toxic: bool


class Outcome(NamedTuple):
    """An alert to be published; `evidence` only where it fires."""

    alert: Alert
    evidence: Evidence | None


class Evaluator:
    """The rules of a file at work.

    Args:
        rules: the rules.
        state: of an evaluator before this one; default: nothing is known.
        history: what was published; it has the last word.
        seasons: what past hours taught.
    """

    def __init__(
        self,
        rules: RuleSet,
        state: State | None = None,
        history: History | None = None,
        seasons: Seasons | None = None,
    ) -> None:
        self.rules = rules
        self.state = state if state is not None else State()
        self.seasons: Seasons = seasons if seasons is not None else {}
        #: Hours that became known since they were last taken: (rule, hour, means by series).
        self.finished: list[tuple[str, int, dict[str, float]]] = []
        self._history = history if history is not None else History()
        self._episodes = Episodes(self.state.standings, self._history)
        self._since: dict[Clock, int] = {
            "metrics": -1 if self.state.tick is None else self.state.tick,
            "pipeline": -1 if self.state.looked is None else self.state.looked,
        }
        self._on = tuple(rule for rule in rules.rules if rule.on)
        self._pipeline = tuple(rule for rule in self._on if isinstance(rule, PipelineRule))
        self._of_metrics = tuple(rule for rule in self._on if not isinstance(rule, PipelineRule))
        self.store = Store(_wanted(self._on))
        self._forget_other_rules()

    def _forget_other_rules(self) -> None:
        """What was learnt under a rule that asked something else is of no use."""
        state = self.state
        versions = {rule.id: teaching(rule) for rule in self._on}
        for rule_id in [r for r, version in state.versions.items() if versions.get(r) != version]:
            state.learnt.pop(rule_id, None)
            state.heard.pop(rule_id, None)
            state.known.pop(rule_id, None)
            self.seasons.pop(rule_id, None)
        state.versions = versions

    # -- input

    def fill(self, metric: Metric) -> None:
        """Know a metric that was evaluated before: of the windows before a restart."""
        self.store.add(metric)

    def add(self, metric: Metric, *, hold: bool = False) -> list[Outcome]:
        """Take a metric in; what it makes due comes first, so that order within a tick is none.

        With `hold` it makes nothing due: the metrics of other partitions are still to come.
        """
        state = self.state
        if state.tick is None:
            state.tick = state.began = metric.start // TICK_S * TICK_S
        outcomes: list[Outcome] = []
        if metric.start > state.newest and not hold:
            state.newest = metric.start
            outcomes = self.advance(metric.start)
        if metric.start + metric.width_s > state.tick - self.rules.longest_s:
            self.store.add(metric)
        return outcomes

    def begin(self, clock: float) -> None:
        """Begin to count time, where there was no metric yet that told it."""
        if self.state.tick is None:
            self.state.tick = self.state.began = int(clock) // TICK_S * TICK_S

    def observe(self, measure: PipelineMeasure, part: str, value: float, at: float) -> None:
        """Note a measure of the pipeline."""
        self.state.observed.setdefault(measure, {})[part] = (int(at), float(value))

    def advance(self, clock: float) -> list[Outcome]:
        """Evaluate every tick that is due at this time, in seconds since the epoch."""
        state = self.state
        if state.tick is None:
            return []
        until = int(clock - self.rules.grace_s) // TICK_S * TICK_S
        outcomes: list[Outcome] = []
        while state.tick < until:
            if until - state.tick > _LONGEST_GAP_S and self.store.empty:
                state.tick = until - _HOUR_S
            tick = state.tick + TICK_S
            outcomes += self._evaluate(tick)
            state.tick = tick
        return outcomes

    def watch(self, clock: float) -> list[Outcome]:
        """Evaluate the pipeline's rules at every tick that is due at this time on the wall clock."""
        state = self.state
        until = int(clock) // TICK_S * TICK_S
        # Nothing was observed while nobody was there, and what was before is too old.
        if state.looked is None or until - state.looked > _HOUR_S:
            state.looked = until - _OBSERVATION_S
        outcomes: list[Outcome] = []
        while state.looked < until:
            tick = state.looked + TICK_S
            self._history.follow(state.standings, "pipeline", self._since["pipeline"], tick)
            for rule in self._pipeline:
                if tick % rule.step_s == 0:
                    readings = self._observed(rule, tick)
                    outcomes += self._stepped(rule, readings, tick, quiet=False)
            state.looked = tick
        return outcomes

    # -- one tick

    def _evaluate(self, tick: int) -> list[Outcome]:
        state = self.state
        self._history.follow(state.standings, "metrics", self._since["metrics"], tick)
        quiet = tick < state.quiet_until
        due = [rule for rule in self._of_metrics if tick % rule.step_s == 0]
        seen = {
            rule.id: candidates(
                rule,
                self.store,
                tick,
                state.learnt.setdefault(rule.id, Learnt()),
                hours=self.seasons.get(rule.id, {}),
                active=self._episodes.active(rule),
            )
            for rule in due
            if isinstance(rule, ChangeRule)
        }
        found = self._discoveries(tick, seen, quiet=quiet)
        outcomes = self._orphans(tick)
        for rule in due:
            readings = self._readings(rule, tick, seen.get(rule.id, {}), found)
            outcomes += self._stepped(rule, readings, tick, quiet=quiet)
            if isinstance(rule, ChangeRule):
                apart = self._episodes.active(rule)
                learn(rule, state.learnt[rule.id], tick, seen[rule.id], apart)
        if tick % _HOUR_S == 0:
            self._finish_hour(tick)
        self.store.forget(tick - self.rules.longest_s)
        return outcomes

    def _stepped(
        self, rule: Rule, readings: Mapping[str, Reading], tick: int, *, quiet: bool
    ) -> list[Outcome]:
        hushed = quiet or (rule.quiet is not None and rule.quiet.covers(tick, rule.severity))
        moved = self._episodes.step(rule, readings, tick, quiet=hushed)
        return [self._outcome(rule, transition, tick) for transition in moved]

    def _discoveries(
        self, tick: int, seen: dict[str, dict[str, Candidate]], *, quiet: bool
    ) -> set[tuple[str, str]]:
        if quiet:
            return set()
        p_values = {
            (rule_id, group): candidate.p
            for rule_id, groups in seen.items()
            for group, candidate in groups.items()
            if candidate.p is not None
        }
        per_day = sum(
            len(self.state.learnt[rule.id].series) * (86_400 // rule.step_s)
            for rule in self._on
            if isinstance(rule, ChangeRule) and rule.id in self.state.learnt
        )
        return self.state.family.discoveries(
            tick, p_values, level=self.rules.false_share, per_day=per_day
        )

    def _readings(
        self,
        rule: Rule,
        tick: int,
        seen: dict[str, Candidate],
        found: set[tuple[str, str]],
    ) -> dict[str, Reading]:
        state, active = self.state, self._episodes.active(rule)
        match rule:
            case ThresholdRule():
                return threshold_readings(rule, self.store, tick, active)
            case ChangeRule():
                readings = {
                    group: candidate.reading(
                        rule, discovered=(rule.id, group) in found, active=group in active
                    )
                    for group, candidate in seen.items()
                }
                # No post at all: nothing is known, and nothing changes.
                unknown = Reading(breach=False, clear=bool(seen))
                return {**dict.fromkeys(active, unknown), **readings}
            case SilenceRule():
                heard = state.heard.setdefault(rule.id, {})
                return silence_readings(
                    rule, self.store, tick, active, heard=heard, began=state.began
                )
            case NewTermRule():
                known = state.known.setdefault(rule.id, {})
                return new_term_readings(
                    rule, self.store, tick, active, known=known, began=state.began
                )
            case PipelineRule():
                return self._observed(rule, tick)

    def _observed(self, rule: PipelineRule, tick: int) -> dict[str, Reading]:
        newest = self.state.observed.get(rule.measure, {})
        # Not what was seen later than the tick, where ticks are made up for after a start.
        fresh = {
            part: value
            for part, (at, value) in newest.items()
            if tick - _OBSERVATION_S < at < tick + TICK_S
        }
        return pipeline_readings(rule, fresh, self._episodes.active(rule))

    def _finish_hour(self, tick: int) -> None:
        hour = tick // _HOUR_S - 1
        for rule in self._on:
            if not isinstance(rule, ChangeRule) or rule.id not in self.state.learnt:
                continue
            means = finished_hour(rule, self.state.learnt[rule.id], tick)
            hours = self.seasons.setdefault(rule.id, {})
            if means:
                hours[hour] = means
                self.finished.append((rule.id, hour, means))
            for old in [h for h in hours if h <= hour - SEASON_HOURS]:
                del hours[old]

    # -- output

    def _outcome(self, rule: Rule, transition: Transition, tick: int) -> Outcome:
        reading, group, fires = transition.reading, transition.group, transition.state == "firing"
        summary = (
            firing(rule, group, reading, transition.started, tick)
            if fires
            else resolved(
                rule, group, reading, begun=transition.started, tick=tick, worst=transition.worst
            )
        )
        alert = Alert(
            schema=ALERT_SCHEMA,
            alert_id=transition.alert_id,
            rule=rule.id,
            kind=rule.kind,
            state=transition.state,
            severity=rule.severity,
            summary=summary[:1].upper() + summary[1:],
            started_at=written(transition.started),
            at=written(tick),
            resolved_at=None if fires else written(tick),
            group=group_fields(rule, group),
            observed=reading.observed,
            expected=reading.expected,
            threshold=reading.threshold,
            unit=unit_of(rule),
            window_s=rule.window_s,
            posts=reading.posts,
            authors=reading.authors,
            terms=_terms(reading, group) if fires else [],
        )
        return Outcome(alert, _evidence(rule, group, reading, tick) if fires else None)

    def _orphans(self, tick: int) -> list[Outcome]:
        """Alerts whose rule is gone or off: nobody else would ever resolve them."""
        known = {rule.id for rule in self._on}
        outcomes = []
        for (rule_id, group), standing in list(self.state.standings.items()):
            if rule_id in known:
                continue
            if standing.alert_id is not None:
                if self._history.decided((rule_id, group), tick):
                    continue
                opened = self._history.published.get(standing.alert_id)
                if opened is not None:
                    outcomes.append(Outcome(_orphan(opened, tick), None))
            del self.state.standings[rule_id, group]
        return outcomes

    def published(self, alert: Alert) -> None:
        """Remember what was sent: only so can it be resolved should its rule go."""
        self._history.published[alert.alert_id] = alert


def _orphan(opened: Alert, tick: int) -> Alert:
    return msgspec.structs.replace(
        opened,
        state="resolved",
        summary=f"Rule `{opened.rule}` is not in force any more",
        at=written(tick),
        resolved_at=written(tick),
        terms=[],
        examples=[],
    )


def _wanted(rules: Sequence[Rule]) -> set[tuple[int, str]]:
    """The windows that these rules read."""
    wanted: set[tuple[int, str]] = set()
    for rule in rules:
        if isinstance(rule, PipelineRule):
            continue
        wanted.add((rule.width_s, rule.by))
        # Whether there are posts at all, and words, which are counted over everything.
        if isinstance(rule, ChangeRule) or (isinstance(rule, NewTermRule) and rule.of == "term"):
            wanted.add((rule.width_s, ALL))
    return wanted


def teaching(rule: Rule) -> str:
    """What a rule's learnt state belongs to: it is void when this changes."""
    what = getattr(rule, "measure", getattr(rule, "of", ""))
    return f"{rule.kind}/{what}/{rule.by}/{rule.window_s}"


def _terms(reading: Reading, group: str) -> list[str]:
    if reading.window is None:
        return list(reading.terms)
    tags = [f"#{item.item}" for item in reading.window.top_tags(4) if item.item != group][:3]
    words = [item.item for item in reading.window.top_terms(_MOST_TERMS)]
    return [*reading.terms, *tags, *(w for w in words if w not in reading.terms)][:_MOST_TERMS]


def _evidence(rule: Rule, group: str, reading: Reading, tick: int) -> Evidence | None:
    if rule.kind in ("pipeline", "silence"):
        return None
    shown = reading.groups[0] if group == SEVERAL and reading.groups else group
    term = shown if rule.kind == "new-term" and rule.of == "term" else None
    toxic = rule.kind in ("threshold", "change") and str(rule.measure).startswith("toxic")
    by, where = (ALL, ALL) if term is not None else (rule.by, shown)
    return Evidence(tick - rule.window_s, tick, by, where, term, toxic)
