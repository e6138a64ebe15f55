"""The evaluator over metrics that were stored: which episodes there would have been.

Invariant: it is the evaluator that runs live, on the same clock, that of the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from stream.aggregates.book import Book
from stream.alerts.evaluator import Evaluator, Outcome
from stream.alerts.history import moment
from stream.alerts.rules import TICK_S, PipelineRule, RuleSet
from stream.outcomes import Alert, Metric

#: So many labels are counted before metrics are written, as a worker does every second or so.
_LABELS_A_CHECKPOINT: Final = 200


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode; `resolved_at` None: it was still going on at the end."""

    alert_id: str
    rule: str
    severity: str
    group: dict[str, str]
    started_at: str
    fired_at: str
    resolved_at: str | None
    lasted_s: int
    observed: float | None
    expected: float | None
    threshold: float | None
    summary: str


@dataclass(frozen=True, slots=True)
class RuleResult:
    """How often a rule would have fired."""

    rule: str
    kind: str
    fired: int
    per_day: float
    groups: int
    firing_s: int
    longest_s: int
    open: int


@dataclass(slots=True)
class Backtest:
    """Takes metrics in the order in which they were written.

    Args:
        rules: what is tried. Pipeline rules have nothing to look at and are left out.
    """

    rules: RuleSet
    metrics: int = 0
    _evaluator: Evaluator = field(init=False)
    _alerts: list[Alert] = field(default_factory=list)
    _first: int | None = None
    _last: int = 0

    def __post_init__(self) -> None:
        self._evaluator = Evaluator(self.rules)

    def add(self, metric: Metric) -> None:
        """One more metric."""
        self.metrics += 1
        if metric.width_s == TICK_S:
            self._first = metric.start if self._first is None else min(self._first, metric.start)
            self._last = max(self._last, metric.start + TICK_S)
        self._take(self._evaluator.add(metric))

    def finish(self) -> None:
        """The metrics are over: evaluate what is due by then."""
        self._take(self._evaluator.advance(self._last + self.rules.grace_s))

    def _take(self, outcomes: Iterable[Outcome]) -> None:
        self._alerts += [outcome.alert for outcome in outcomes]

    @property
    def days(self) -> float:
        """How much time the metrics are of."""
        return max(0.0, (self._last - (self._first or self._last)) / 86_400)

    @property
    def skipped(self) -> list[str]:
        """Rules that a backtest says nothing about."""
        return [
            rule.id for rule in self.rules.rules if isinstance(rule, PipelineRule) or not rule.on
        ]

    def episodes(self) -> list[Episode]:
        """Every episode, in the order in which they fired."""
        over = {a.alert_id: a.at for a in self._alerts if a.state == "resolved"}
        return [self._episode(a, over.get(a.alert_id)) for a in self._alerts if a.state == "firing"]

    def _episode(self, alert: Alert, resolved_at: str | None) -> Episode:
        end = self._last if resolved_at is None else moment(resolved_at)
        return Episode(
            alert_id=alert.alert_id,
            rule=alert.rule,
            severity=alert.severity,
            group=alert.group,
            started_at=alert.started_at,
            fired_at=alert.at,
            resolved_at=resolved_at,
            lasted_s=end - moment(alert.started_at),
            observed=alert.observed,
            expected=alert.expected,
            threshold=alert.threshold,
            summary=alert.summary,
        )

    def results(self) -> list[RuleResult]:
        """By rule, in the order of the file."""
        episodes = self.episodes()
        results = []
        for rule in self.rules.rules:
            if rule.id in self.skipped:
                continue
            own = [episode for episode in episodes if episode.rule == rule.id]
            results.append(
                RuleResult(
                    rule=rule.id,
                    kind=rule.kind,
                    fired=len(own),
                    per_day=round(len(own) / self.days, 2) if self.days else 0.0,
                    groups=len({tuple(episode.group.values()) for episode in own}),
                    firing_s=sum(episode.lasted_s for episode in own),
                    longest_s=max((episode.lasted_s for episode in own), default=0),
                    open=sum(episode.resolved_at is None for episode in own),
                )
            )
        return results


def metrics_of_labels(records: Iterable[bytes]) -> Iterator[Metric]:
    """The metrics that the role `aggregate` would write of these labels, in its order."""
    book = Book("labels", 0)
    waiting = 0
    for offset, value in enumerate(records):
        before = book.watermark
        book.add([(offset, value)])
        waiting += 1
        if waiting >= _LABELS_A_CHECKPOINT or book.watermark > before:
            yield from book.checkpoint().metrics
            waiting = 0
    yield from book.checkpoint().metrics
