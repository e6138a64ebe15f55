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
        #: What partitions that are not open here have used: other workers', and quiet ones of ours.
        self._counts: dict[int, Quota] = {}
        self._elsewhere: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        #: Tripped rules and since when.
        self.tripped: dict[str, str] = {}
        #: Those of them that were tripped by a lower quota than today's, before this start.
        self._doubtful: set[str] = set()
        #: Those that were, and are free by the quota that is in force.
        self._cleared: set[str] = set()

    @property
    def limits(self) -> Mapping[str, int]:
        """By rule, the most a day."""
        return self._limits

    def total(self, rule: str) -> int:
        """How many of the day's are used, as far as this worker knows."""
        return self._total[rule] + self._elsewhere[rule]

    def open(self, partition: int, kept: Quota | None) -> None:
        """Begin or begin again with a partition, from its last count, or from none.

        What was tripped stays tripped, if it was on this day; see `judge`.
        """
        self.close(partition)
        if self._counts.pop(partition, None) is not None:
            self._add_up()
        part = _Part(next_offset=0)
        if kept is not None:
            part.next_offset = max(kept.next_offset, 0)
            if kept.day == self.day:
                part.used.update(kept.used)
                self._remember(kept)
        self._parts[partition] = part
        self._total.update(part.used)

    def glance(self, partition: int, kept: Quota | None, decided: Mapping[int, Decision]) -> None:
        """Know what a partition has used before its first label comes.

        Args:
            partition: its number.
            kept: its last count.
            decided: by the label's offset, strong decisions that may not be in that.
        """
        used: Counter[str] = Counter()
        next_offset = 0 if kept is None else kept.next_offset
        if kept is not None and kept.day == self.day:
            used.update(kept.used)
            self._remember(kept)
        for at, decision in sorted(decided.items()):
            if at >= next_offset and decision.decided_at[:10] == self.day:
                used.update(_counted(decision))
                next_offset = at + 1
        self._counts[partition] = Quota(
            schema=QUOTA_SCHEMA,
            partition=partition,
            day=self.day,
            next_offset=next_offset,
            at="",
            used=dict(used),
        )
        self._add_up()

    def _remember(self, kept: Quota) -> None:
        for rule, since in kept.tripped.items():
            limit = self._limits.get(rule)
            lower = limit is None or kept.limits.get(rule, limit) < limit
            if rule in self.tripped and rule not in self._doubtful:
                continue
            if not lower:
                self.tripped[rule] = since
                self._doubtful.discard(rule)
            elif rule not in self._cleared:
                self.tripped.setdefault(rule, since)
                self._doubtful.add(rule)

    @property
    def doubtful(self) -> bool:
        """Whether `judge` is needed: a quota was raised while nobody was there to see it."""
        return bool(self._doubtful)

    def judge(self, counts: Iterable[Quota]) -> dict[str, str]:
        """Judge by the quota in force what another one tripped; what is free, and since when it was not.

        Args:
            counts: of every partition, also those of other workers.
        """
        self.elsewhere(counts)
        freed = {}
        for rule in sorted(self._doubtful):
            limit = self._limits.get(rule)
            if limit is None or self.total(rule) < limit:
                freed[rule] = self.tripped.pop(rule)
        self._cleared.update(freed)
        self._doubtful = set()
        return freed

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
        """What partitions that are not open here have used, and what they have tripped by it.

        Not what is far from its limit: the other has not seen yet that it was raised, and two
        workers must not go on telling each other.
        """
        today = [c for c in counts if c.day == self.day and c.partition not in self._parts]
        for count in today:
            known = self._counts.get(count.partition)
            if known is None or known.next_offset <= count.next_offset:
                self._counts[count.partition] = count
        self._add_up()
        for count in today:
            for rule, since in count.tripped.items():
                limit = self._limits.get(rule)
                if limit is not None and self.total(rule) >= limit:
                    self.tripped.setdefault(rule, since)

    def _add_up(self) -> None:
        self._elsewhere = Counter()
        for count in self._counts.values():
            self._elsewhere.update(count.used)

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
        tripped = []
        for rule in _counted(decision):
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
        self._cleared = set()
        freed = sorted(set(self.tripped) - self._over())
        for rule in freed:
            del self.tripped[rule]
        return self.trip(now_ms), freed

    def trip(self, now_ms: int) -> list[str]:
        """Trip what has used all it may; which rules that is.

        Most are tripped by the action that was the last one. A quota of 0 has none, and that of a
        quota which was lowered lies in the past.
        """
        new = sorted(self._over() - set(self.tripped))
        for rule in new:
            self.tripped[rule] = rfc3339(now_ms)
        return new

    def _over(self) -> set[str]:
        return {rule for rule, limit in self._limits.items() if self.total(rule) >= limit}

    def turn(self, day: str) -> dict[str, str]:
        """Another day: everything begins at none. What was tripped, and since when."""
        freed, self.tripped = self.tripped, {}
        self.day = day
        self._total = Counter()
        self._elsewhere = Counter()
        self._counts, self._doubtful, self._cleared = {}, set(), set()
        for part in self._parts.values():
            part.used = Counter()
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
            limits={r: self._limits[r] for r in self.tripped if r in self._limits},
        )

    @property
    def partitions(self) -> list[int]:
        """Those that are open."""
        return list(self._parts)


def _counted(decision: Decision) -> list[str]:
    """The quotas that a decision uses one of."""
    if decision.by != "policy" or decision.action not in STRONG_ACTIONS:
        return []
    live = (match for match in decision.rules if match.mode == "live")
    return [*(match.id for match in live if match.action in STRONG_ACTIONS), ALL_RULES]


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
