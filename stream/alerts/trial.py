"""An alert that did not happen, to see it arrive: fired and resolved, marked as a test."""

from __future__ import annotations

import msgspec

from stream.aggregates.merge import ALL
from stream.alerts.history import written
from stream.alerts.reading import group_fields
from stream.alerts.rules import Rule
from stream.alerts.words import unit_of
from stream.outcomes import ALERT_SCHEMA, Alert, AlertExample


def trial_alerts(rule: Rule, now_s: int) -> list[Alert]:
    """The two records of a made-up episode of this rule."""
    group = next(iter(sorted(rule.only)), ALL if rule.by == ALL else "example")
    fired = Alert(
        schema=ALERT_SCHEMA,
        alert_id=f"test/{rule.id}/{written(now_s)}",
        rule=rule.id,
        kind=rule.kind,
        state="firing",
        severity=rule.severity,
        summary=f"This is a test of the rule {rule.id}: nothing happened",
        started_at=written(now_s - rule.window_s),
        at=written(now_s),
        group=group_fields(rule, group),
        unit=unit_of(rule),
        window_s=rule.window_s,
        terms=["test"],
        examples=[AlertExample(post_id="test", text="A post would stand here.", author="nobody")],
        test=True,
    )
    resolved = msgspec.structs.replace(
        fired,
        state="resolved",
        summary=f"The test of the rule {rule.id} is over",
        resolved_at=written(now_s),
        terms=[],
        examples=[],
    )
    return [fired, resolved]
