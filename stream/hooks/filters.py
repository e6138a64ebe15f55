"""Which decisions and alerts a target wants. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from stream.hooks.events import Event
from stream.outcomes import Action, Alert, Decision, Severity

_SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What passes; a field that is left out keeps nothing back.

    Without `actions`, a decision of the policy to allow a post is kept back. `rules` are names
    with `*` and `?`; of a decision's rules the live ones count, the shadow ones too with
    `shadow`. An alert has a language only where it is grouped by one. `retractions` are the
    decisions of posts that were deleted or edited away: they pass whatever else is asked for,
    because their receiver may have been told of the post before.
    """

    actions: list[Action] | None = None
    min_severity: Severity = "info"
    rules: list[str] = []
    languages: list[str] = []
    kinds: list[Literal["threshold", "change", "silence", "pipeline", "new-term"]] = []
    states: list[Literal["firing", "resolved"]] = []
    shadow: bool = False
    retractions: bool | None = None


def passes(wanted: Filter, event: Event, *, retractions: bool = True) -> bool:
    """Whether the target wants the event.

    Args:
        wanted: what the target asks for.
        event: a decision or an alert.
        retractions: what holds where the filter does not say.
    """
    record = event.record
    if isinstance(record, Alert):
        return _alert_passes(wanted, record)
    if record.retracted:
        return retractions if wanted.retractions is None else wanted.retractions
    return _decision_passes(wanted, record)


def _alert_passes(wanted: Filter, alert: Alert) -> bool:
    if wanted.kinds and alert.kind not in wanted.kinds:
        return False
    if wanted.states and alert.state not in wanted.states:
        return False
    language = alert.group.get("language")
    if wanted.languages and language is not None and language not in wanted.languages:
        return False
    return _severe(wanted, alert.severity) and _named(wanted, [alert.rule])


def _decision_passes(wanted: Filter, decision: Decision) -> bool:
    rules = [rule for rule in decision.rules if wanted.shadow or rule.mode == "live"]
    if wanted.actions is not None:
        if decision.action not in wanted.actions:
            return False
    elif (
        decision.action is Action.ALLOW
        and decision.by == "policy"
        and not (wanted.shadow and rules)
    ):
        return False
    if wanted.languages and decision.language not in wanted.languages:
        return False
    return _severe(wanted, decision.severity) and _named(wanted, [rule.id for rule in rules])


def _severe(wanted: Filter, severity: Severity) -> bool:
    return _SEVERITIES.index(severity) >= _SEVERITIES.index(wanted.min_severity)


def _named(wanted: Filter, rules: list[str]) -> bool:
    return not wanted.rules or any(
        fnmatchcase(rule, pattern) for rule in rules for pattern in wanted.rules
    )
