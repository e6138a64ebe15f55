"""The rules with their figures, as the Rules page shows them: pure but for the reads.

Invariant: a rule of the policy has a row whether it ever matched or not, and one that matched and
is gone has one too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dashboard.database import Database
from dashboard.queries.audit import AuditFilter, AuditView, audit_entries
from dashboard.queries.rules import HOUR_S, RuleHour, precisions, rule_hours
from stream.decisions.precision import Precision
from stream.policy import Policy, Rule

#: A rule's matches are shown by the hour over this stretch.
DAY_H: Final = 24


class RuleRow(NamedTuple):
    """One rule; `mode` is `gone` where the policy has it no more."""

    id: str
    mode: str
    action: str
    severity: str
    version: str
    hours: tuple[int, ...]
    per_hour: float
    precision: Precision
    changed: str
    rule: Rule | None


def rule_rows(
    db: Database, policy: Policy, now_s: int, changes: Mapping[str, AuditView], when: str
) -> list[RuleRow]:
    """Every rule: those of the policy in their order, then those that are gone.

    Args:
        db: the read model.
        policy: in force.
        now_s: the time.
        changes: by rule, the audit's newest entry.
        when: a format of `time.strftime` for that entry.
    """
    from datetime import UTC, datetime

    to_s = now_s // HOUR_S * HOUR_S + HOUR_S
    from_s = to_s - DAY_H * HOUR_S
    by_rule = hours_by_rule(rule_hours(db, None, from_s, to_s), from_s)
    # A young stream is not divided by hours in which there was none of it.
    first = min(
        (h for hours in by_rule.values() for h, n in enumerate(hours) if n), default=DAY_H - 1
    )
    known = precisions(db)
    rules = {rule.id: rule for rule in policy.rules}
    rows = []
    for name in [*rules, *sorted(set(by_rule) - set(rules))]:
        rule = rules.get(name)
        hours = by_rule.get(name, (0,) * DAY_H)
        entry = changes.get(name)
        at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).strftime(when) if entry else ""
        rows.append(
            RuleRow(
                name,
                rule.mode if rule else "gone",
                rule.action if rule else "",
                rule.severity if rule else "",
                rule.version if rule else "",
                hours,
                sum(hours) / (DAY_H - first),
                known.get(name, Precision(name, 0, 0)),
                f"{at}, {entry.who}" if entry else "",
                rule,
            )
        )
    return rows


def hours_by_rule(hours: Sequence[RuleHour], from_s: int) -> dict[str, tuple[int, ...]]:
    """By rule, the matches of each hour of a day, all versions and modes together."""
    found: dict[str, list[int]] = {}
    for hour in hours:
        place = (hour.start_s - from_s) // HOUR_S
        if 0 <= place < DAY_H:
            found.setdefault(hour.rule, [0] * DAY_H)[place] += hour.matches
    return {rule: tuple(counts) for rule, counts in found.items()}


def rule_changes(db: Database, limit: int = 500) -> list[AuditView]:
    """What people changed in the rules, the newest first."""
    return audit_entries(db, AuditFilter(what="rule.", people_only=True), limit)


def newest_change(changes: Sequence[AuditView]) -> dict[str, AuditView]:
    """By rule, its newest change."""
    found: dict[str, AuditView] = {}
    for entry in changes:
        found.setdefault(entry.on, entry)
    return found


def change_lines(entry: AuditView) -> list[tuple[str, str, str]]:
    """(field, before, after) of a change."""
    detail = json.loads(entry.detail or "{}")
    fields = detail.get("fields") or []
    if not fields:
        return [(str(detail.get("change", "")), "", "")]
    return [
        (str(f.get("field", "")), str(f.get("before") or ""), str(f.get("after") or ""))
        for f in fields
        if isinstance(f, dict)
    ]


def precision_words(precision: Precision) -> str:
    """The share with its interval, or that nobody judged."""
    if precision.value is None or precision.interval is None:
        return "not judged"
    low, high = precision.interval
    return f"{precision.value:.0%} ({low:.0%} to {high:.0%}), {precision.judged:,} judged"
