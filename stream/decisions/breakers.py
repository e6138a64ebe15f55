"""The quotas as the role `decide` keeps them: what trips is told, what is used is written down.

Invariant: what is written of a partition knows only of decisions that were delivered, so that a
restart counts each of the others once; what was published of an alert is not published again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from stream.decisions.quotas import Quotas, day_of, limits_of, quota_alert
from stream.decisions.recovery import Past
from stream.kafka.packing import Output
from stream.logs import get_logger
from stream.outcomes import Alert, Decision, Quota
from stream.policy import Policy
from stream.policy.engine import Mode
from stream.records import encode, rfc3339
from stream.topics import ALERTS, QUOTAS

log = get_logger(__name__)

#: How often what is used of the quotas is written, and how often at least while labels come.
_COUNT_EVERY_S: Final = 2.0
_COUNT_AT_LEAST_S: Final = 10.0
#: No more batches, and for no longer, are on their way to the broker.
_UNDELIVERED_BATCHES: Final = 64
_UNDELIVERED_S: Final = 3.0


class _Written:
    """What is known of a partition's counts on the broker."""

    __slots__ = ("at_s", "certain", "last", "states")

    def __init__(self) -> None:
        #: What was used after each of the last batches, the last one that is surely delivered, and
        #: the last one written.
        self.states: deque[tuple[float, Quota]] = deque()
        self.certain: Quota | None = None
        self.last: Quota | None = None
        self.at_s = 0.0


class Breakers:
    """Counts strong actions, trips, and says so.

    Args:
        policy: the policy in force.
        prefix: of the topics.
        now_ms: the time it is.
        published: by id, the last state of the quotas' alerts on their topic.
        counts: the last count of every partition.
    """

    def __init__(
        self,
        policy: Policy,
        prefix: str,
        now_ms: int,
        published: Callable[[], Mapping[str, str]],
        counts: Callable[[], Sequence[Quota]],
    ) -> None:
        self._published = published
        self._counts = counts
        self._given_out: dict[str, str] = {}
        self._alerts = ALERTS.full_name(prefix)
        self._topic = QUOTAS.full_name(prefix)
        self._quotas = Quotas(limits_of(policy), day_of(now_ms))
        self._written: dict[int, _Written] = {}
        self._policy = policy
        self._in_force, self._shadowed = policy, frozenset[str]()

    @property
    def tripped(self) -> frozenset[str]:
        """The rules (or "", all of them) that may act no more today."""
        return frozenset(self._quotas.tripped)

    def in_force(self) -> Policy:
        """The policy with what is tripped in shadow."""
        shadowed: frozenset[str] = frozenset()
        if self._quotas.tripped:
            live = {rule.id for rule in self._policy.rules if rule.mode == "live"}
            shadowed = self._quotas.shadowed(self._policy) & live
        if shadowed != self._shadowed:
            self._shadowed = shadowed
            changes: dict[str, Mode] = dict.fromkeys(shadowed, "shadow")
            self._in_force = self._policy.with_modes(changes) if shadowed else self._policy
        return self._in_force

    def count(self, partition: int, offset: int, decision: Decision) -> list[Output]:
        """Count the decision on the label at an offset."""
        tripped = self._quotas.count(partition, offset, decision)
        return [output for rule in tripped for output in self._fired(rule)]

    def turn(self, now_ms: int) -> list[Output]:
        """Begin another day, if it is one."""
        day, before = day_of(now_ms), self._quotas.day
        if day == before:
            return []
        freed = self._quotas.turn(day).items()
        outputs = [
            output
            for rule, since in freed
            for output in self._resolved(rule, before, since, "the day is over", now_ms)
        ]
        return outputs + self.adopt(self._policy, now_ms)

    def adopt(self, policy: Policy, now_ms: int) -> list[Output]:
        """Another policy, with other quotas."""
        self._policy = self._in_force = policy
        self._shadowed = frozenset()
        day, since = self._quotas.day, dict(self._quotas.tripped)
        tripped, freed = self._quotas.adopt(limits_of(policy), now_ms)
        outputs = [output for rule in tripped for output in self._fired(rule)]
        return outputs + self._freed({rule: since[rule] for rule in freed}, day, now_ms)

    def _freed(self, rules: Mapping[str, str], day: str, now_ms: int) -> list[Output]:
        """What acts again on the same day, and since when it did not."""
        limits = self._quotas.limits
        return [
            output
            for rule, since in rules.items()
            for output in self._resolved(
                rule, day, since, "it was raised" if rule in limits else "it was lifted", now_ms
            )
        ]

    def begin(self, partition: int, first: int, past: Past, now_ms: int) -> list[Output]:
        """Begin with a partition at a label's offset, unless its count ends just before it."""
        if self._quotas.continues(partition, first):
            return []
        outputs = self.stale(past.quota, now_ms)
        self._quotas.open(partition, past.quota)
        self._written[partition] = _Written()
        for at, decision in sorted(past.decided.items()):
            # Those behind the label that comes next are counted when it is read again.
            if at < first and decision.decided_at[:10] == self._quotas.day:
                outputs += self.count(partition, at, decision)
        return outputs + self.settle(now_ms)

    def glance(
        self, partition: int, kept: Quota | None, decided: Mapping[int, Decision], now_ms: int
    ) -> list[Output]:
        """Know what a partition has used whose first label is still to come; then `settle`."""
        outputs = self.stale(kept, now_ms)
        self._quotas.glance(partition, kept, decided)
        return outputs

    def settle(self, now_ms: int) -> list[Output]:
        """With all that is known: what was tripped may be free, what was not may be used up."""
        outputs = self._judged(now_ms)
        return outputs + [o for rule in self._quotas.trip(now_ms) for o in self._fired(rule)]

    def _judged(self, now_ms: int) -> list[Output]:
        """A quota that was raised while no worker ran: the rule acts again, if it may."""
        if not self._quotas.doubtful:
            return []
        return self._freed(self._quotas.judge(self._counts()), self._quotas.day, now_ms)

    @property
    def partitions(self) -> list[int]:
        """Those that are counted."""
        return self._quotas.partitions

    def end(self, partition: int) -> None:
        """A partition went to another worker."""
        self._quotas.close(partition)
        self._written.pop(partition, None)

    def elsewhere(self, counts: Iterable[Quota]) -> None:
        """What the partitions of other workers have used."""
        self._quotas.elsewhere(counts)

    def stale(self, kept: Quota | None, now_ms: int) -> list[Output]:
        """Resolve what was tripped on a day that is over, when nobody was there to see it end."""
        if kept is None or kept.day == self._quotas.day or not kept.tripped:
            return []
        outputs = [
            output
            for rule, since in kept.tripped.items()
            for output in self._resolved(rule, kept.day, since, "the day is over", now_ms)
        ]
        cleared = Quota(
            schema=kept.schema,
            partition=kept.partition,
            day=self._quotas.day,
            next_offset=kept.next_offset,
            at=rfc3339(now_ms),
        )
        return [*outputs, self._record(cleared)]

    def write(self, now_ms: int) -> list[Output]:
        """What is used, as it was before the batches that may still be on their way, when due."""
        return [
            self._record(state)
            for partition in self._quotas.partitions
            if (state := self._due(partition, now_ms)) is not None
        ]

    def _due(self, partition: int, now_ms: int) -> Quota | None:
        known, now_s = self._written[partition], time.monotonic()
        newest = self._quotas.state(partition, now_ms)
        last = known.states[-1][1] if known.states else known.certain
        if last is None or last.next_offset != newest.next_offset:
            known.states.append((now_s, newest))
        while known.states and (
            len(known.states) > _UNDELIVERED_BATCHES or known.states[0][0] < now_s - _UNDELIVERED_S
        ):
            known.certain = known.states.popleft()[1]
        state = known.certain
        if state is None or state is known.last:
            return None
        changed = known.last is None or known.last.used != state.used
        if now_s - known.at_s < (_COUNT_EVERY_S if changed else _COUNT_AT_LEAST_S):
            return None
        known.last, known.at_s = state, now_s
        return state

    def _fired(self, rule: str) -> list[Output]:
        quotas = self._quotas
        used, limit = quotas.total(rule), quotas.limits.get(rule)
        log.warning("quota reached", rule=rule or "all rules", used=used, quota=limit)
        alert = quota_alert(rule, quotas.day, used=used, limit=limit, since=quotas.tripped[rule])
        return self._alert(alert)

    def _resolved(self, rule: str, day: str, since: str, why: str, now_ms: int) -> list[Output]:
        log.info("quota open again", rule=rule or "all rules", reason=why)
        limit = self._quotas.limits.get(rule)
        resolved = (rfc3339(now_ms), why)
        alert = quota_alert(rule, day, used=limit or 0, limit=limit, since=since, resolved=resolved)
        return self._alert(alert)

    def _alert(self, alert: Alert) -> list[Output]:
        """None where it is published: what was decided before a kill is counted once more.

        A quota that was raised and is reached again on the same day is another episode.
        """
        # What was given out may still be on its way.
        states = {**self._published(), **self._given_out}
        first, number = alert.alert_id, 1
        name = first
        while states.get(name) == "resolved" and (
            alert.state == "firing" or f"{first}:{number + 1}" in states
        ):
            number += 1
            name = f"{first}:{number}"
        if states.get(name) == alert.state:
            return []
        self._given_out[name] = alert.state
        record = msgspec.structs.replace(alert, alert_id=name)
        return [Output(self._alerts, 0, name.encode(), encode(record))]

    def _record(self, state: Quota) -> Output:
        return Output(self._topic, state.partition, b"%d" % state.partition, encode(state))
