"""The circuit breakers: how many strong actions a day a rule may take, and all rules together.

Pure. Invariant: a label is counted once, by its place; what a tripped breaker turned into a shadow
is said in the decision. Days are UTC days of the time of deciding, because a quota protects people
now, however old the posts are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stream.outcomes import (
    ALERT_SCHEMA,
    QUOTA_PREFIX,
    QUOTA_SCHEMA,
    STRONG_ACTIONS,
    Alert,
    Decision,
    Quota,
)
from stream.policy import Policy, Verdict
from stream.records import rfc3339

#: The quota over all rules, in counts and in `Decision.quota`.
ALL_RULES: Final = ""
GLOBAL_NAME: Final = "all-rules"
_DAY_MS: Final = 86_400_000


def day_of(at_ms: int) -> str:
    """The UTC day of a time: `2026-11-22`."""
    return rfc3339(at_ms - at_ms % _DAY_MS)[:10]


def limits_of(policy: Policy) -> dict[str, int]:
    """By rule (and `ALL_RULES`) the most strong actions a day."""
    limits = {
        rule.id: rule.quota
        for rule in policy.rules
        if rule.quota is not None and rule.action in STRONG_ACTIONS
    }
    if policy.quota is not None:
        limits[ALL_RULES] = policy.quota
    return limits


@dataclass(slots=True)
class _Part:
    """What one partition has used of the day."""

    next_offset: int
    used: Counter[str] = field(default_factory=Counter)


class Quotas:
    """The day's counts of this worker's partitions, and what they trip.

    Args:
        limits: as `limits_of` gives them.
        day: the day it is.
    """

    def __init__(self, limits: Mapping[str, int], day: str) -> None:
        self._limits = dict(limits)
        self.day = day
        self._parts: dict[int, _Part] = {}
        #: What other workers' partitions have used.
        self._elsewhere: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        #: Tripped rules and since when.
        self.tripped: dict[str, str] = {}

    @property
    def limits(self) -> Mapping[str, int]:
        """By rule, the most a day."""
        return self._limits

    def total(self, rule: str) -> int:
        """How many of the day's are used, as far as this worker knows."""
        return self._total[rule] + self._elsewhere[rule]

    def open(self, partition: int, kept: Quota | None) -> None:
        """Begin or begin again with a partition, from its last count, or from none.

        What was tripped stays tripped, if it was on this day.
        """
        self.close(partition)
        part = _Part(next_offset=0)
        if kept is not None:
            part.next_offset = max(kept.next_offset, 0)
            if kept.day == self.day:
                part.used.update(kept.used)
                for rule, since in kept.tripped.items():
                    self.tripped.setdefault(rule, since)
        self._parts[partition] = part
        self._total.update(part.used)

    def continues(self, partition: int, offset: int) -> bool:
        """Whether the count of a partition ends just before a label's offset."""
        part = self._parts.get(partition)
        return part is not None and part.next_offset == offset

    def close(self, partition: int) -> None:
        """Forget a partition: another worker counts it, or it is opened again."""
        part = self._parts.pop(partition, None)
        if part is not None:
            self._total.subtract(part.used)

    def elsewhere(self, counts: Iterable[Quota]) -> None:
        """What the partitions of other workers have used, and what they have tripped by it.

        Not what is far from its limit: the other has not seen yet that it was raised, and two
        workers must not go on telling each other.
        """
        self._elsewhere = Counter()
        today = [c for c in counts if c.day == self.day and c.partition not in self._parts]
        for count in today:
            self._elsewhere.update(count.used)
        for count in today:
            for rule, since in count.tripped.items():
                limit = self._limits.get(rule)
                if limit is not None and self.total(rule) >= limit:
                    self.tripped.setdefault(rule, since)

    def shadowed(self, policy: Policy) -> frozenset[str]:
        """The rules that may act no more today."""
        if ALL_RULES in self.tripped:
            strong = (rule.id for rule in policy.rules if rule.action in STRONG_ACTIONS)
            return frozenset(strong) | frozenset(self.tripped)
        return frozenset(self.tripped)

    def count(self, partition: int, offset: int, decision: Decision) -> list[str]:
        """Count a decision on the label at an offset; the rules (or `ALL_RULES`) it trips.

        A label before the partition's count is in it already.
        """
        part = self._parts[partition]
        if offset < part.next_offset:
            return []
        part.next_offset = offset + 1
        return self._use(part, decision)

    def _use(self, part: _Part, decision: Decision) -> list[str]:
        if decision.by != "policy" or decision.action not in STRONG_ACTIONS:
            return []
        used = [
            match.id
            for match in decision.rules
            if match.mode == "live" and match.action in STRONG_ACTIONS
        ]
        tripped = []
        for rule in (*used, ALL_RULES):
            part.used[rule] += 1
            self._total[rule] += 1
            limit = self._limits.get(rule)
            if limit is not None and rule not in self.tripped and self.total(rule) >= limit:
                # Not the clock: after a kill the same decision trips it, at the same time.
                self.tripped[rule] = decision.decided_at
                tripped.append(rule)
        return tripped

    def adopt(self, limits: Mapping[str, int], now_ms: int) -> tuple[list[str], list[str]]:
        """Another policy's limits; the rules this trips, and those it lets act again."""
        self._limits = dict(limits)
        over = {rule for rule, limit in self._limits.items() if self.total(rule) >= limit}
        freed = sorted(set(self.tripped) - over)
        for rule in freed:
            del self.tripped[rule]
        new = sorted(over - set(self.tripped))
        for rule in new:
            self.tripped[rule] = rfc3339(now_ms)
        return new, freed

    def turn(self, day: str) -> dict[str, str]:
        """Another day: everything begins at none. What was tripped, and since when."""
        freed, self.tripped = self.tripped, {}
        self.day = day
        self._total = Counter()
        self._elsewhere = Counter()
        for part in self._parts.values():
            part.used = Counter()
        # A quota of 0 is a rule that may never act.
        return freed

    def state(self, partition: int, now_ms: int) -> Quota:
        """The record that a restart goes on from."""
        part = self._parts[partition]
        return Quota(
            schema=QUOTA_SCHEMA,
            partition=partition,
            day=self.day,
            next_offset=part.next_offset,
            at=rfc3339(now_ms),
            used=dict(part.used),
            tripped=dict(self.tripped),
        )

    @property
    def partitions(self) -> list[int]:
        """Those that are open."""
        return list(self._parts)


def quota_that_shadowed(policy: Policy, verdict: Verdict, tripped: Iterable[str]) -> str | None:
    """What `Decision.quota` says: the tripped rule that would have acted, or `all-rules`."""
    names = frozenset(tripped)
    if not names or verdict.safelist is not None:
        return None
    live = {rule.id for rule in policy.rules if rule.mode == "live"}
    for match in verdict.matches:
        if match.mode == "shadow" and match.id in live and match.action in STRONG_ACTIONS:
            if match.id in names:
                return match.id
            if ALL_RULES in names:
                return GLOBAL_NAME
    return None


def quota_alert(
    rule: str,
    day: str,
    *,
    used: int,
    limit: int | None,
    since: str,
    resolved: tuple[str, str] | None = None,
) -> Alert:
    """The alert of a tripped breaker; one episode per rule and day, under one id.

    Args:
        rule: its id, or `ALL_RULES`.
        day: the quota's.
        used: strong actions so far.
        limit: the quota.
        since: when it tripped.
        resolved: when and why it is open again; None: it fires.
    """
    name = rule or GLOBAL_NAME
    whose = f"the rule `{rule}`" if rule else "all rules together"
    if resolved is not None:
        summary = f"quota of {whose} is open again: {resolved[1]}"
    else:
        summary = (
            f"quota of {whose} reached: {used} strong actions on {day}; "
            "further matches are only noted (shadow)"
        )
    return Alert(
        schema=ALERT_SCHEMA,
        alert_id=f"{QUOTA_PREFIX}{name}:{day}",
        rule=f"{QUOTA_PREFIX}{name}",
        kind="pipeline",
        state="firing" if resolved is None else "resolved",
        severity="high",
        summary=summary,
        started_at=since,
        at=since if resolved is None else resolved[0],
        resolved_at=None if resolved is None else resolved[0],
        group={"rule": name, "day": day},
        observed=float(used),
        threshold=None if limit is None else float(limit),
        unit="posts a day",
    )
