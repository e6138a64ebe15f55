"""The tests that stand in a rule file beside the rules: windows in, episodes out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from stream.aggregates.merge import ALL
from stream.aggregates.sketches import new_authors
from stream.alerts.evaluator import Evaluator
from stream.alerts.rules import PipelineRule, Rule, RuleSet, RuleTest
from stream.outcomes import METRIC_SCHEMA, Alert, Metric

#: Any beginning of an hour will do.
_BEGIN: Final = 1_800_000_000
#: So long nothing comes after the last window, for what is still to resolve.
_AFTER_S: Final = 60


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """What a test found."""

    test: RuleTest
    alerts: tuple[Alert, ...]

    @property
    def fired(self) -> int:
        """How often the rule fired."""
        return sum(alert.state == "firing" for alert in self.alerts)

    @property
    def resolved(self) -> int:
        """How often it resolved."""
        return sum(alert.state == "resolved" for alert in self.alerts)

    @property
    def problem(self) -> str | None:
        """What is not as it should be; None: all is."""
        test = self.test
        if self.fired != test.fires:
            return f"it fired {_times(self.fired)}, not {_times(test.fires)}"
        if test.resolves is not None and self.resolved != test.resolves:
            return f"it resolved {_times(self.resolved)}, not {_times(test.resolves)}"
        return None


def run_test(rules: RuleSet, test: RuleTest) -> TestOutcome:
    """Run one test: its rule alone, with no quiet hours."""
    rule = next(rule for rule in rules.rules if rule.id == test.rule)
    awake = replace(rule, quiet=None, on=True)
    evaluator = Evaluator(replace(rules, rules=(awake,)))
    alerts: list[Alert] = []
    at = _BEGIN
    of_pipeline = isinstance(awake, PipelineRule)

    def advance(to: int) -> list[Alert]:
        outcomes = evaluator.watch(to) if of_pipeline else evaluator.advance(to + rules.grace_s)
        return [outcome.alert for outcome in outcomes]

    for number, window in enumerate(test.windows):
        alerts += advance(at)
        if isinstance(awake, PipelineRule):
            if "value" in window:
                evaluator.observe(awake.measure, test.group, window["value"], at + 1)
        elif number == 0 or window.get("posts", 0):
            for metric in _metrics(awake, test, window, at, number):
                alerts += [o.alert for o in evaluator.add(metric)]
        at += test.width_s
    alerts += advance(at)
    if not of_pipeline and awake.kind != "silence":
        alerts += advance(at + _AFTER_S)
    return TestOutcome(test, tuple(alerts))


def _metrics(
    rule: Rule, test: RuleTest, window: dict[str, int], at: int, number: int
) -> list[Metric]:
    """The window's metric in the rule's group, and the same among all posts."""
    authors = new_authors()
    for author in range(window.get("authors", window.get("posts", 0))):
        authors.update(f"{number}/{author}")
    sketch = authors.serialize_compact()
    groups = {(rule.by, test.group), (ALL, ALL)}
    return [
        Metric(
            schema=METRIC_SCHEMA,
            start=at,
            width_s=test.width_s,
            by=by,
            group=group,
            partition=0,
            revision=1,
            of="labels",
            posts=window.get("posts", 0),
            positive=window.get("positive", 0),
            negative=window.get("negative", 0),
            neutral=window.get("posts", 0) - window.get("positive", 0) - window.get("negative", 0),
            toxic=window.get("toxic", 0),
            unsupported=window.get("unsupported", 0),
            actions={
                "remove": window.get("strong", 0),
                "allow": window.get("posts", 0) - window.get("strong", 0),
            },
            authors=sketch,
        )
        for by, group in sorted(groups)
    ]


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
