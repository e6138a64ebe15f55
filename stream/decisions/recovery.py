"""What a partition's decisions depend on, read back after a start or a rebalance.

Invariant: what is given depends on the labels before an offset, the decisions already written and
the reviews; so a partition goes on, with whoever holds it, as if nobody had been killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from stream.decisions.history import MAX_ENTRIES
from stream.decisions.readback import Reader, find
from stream.decisions.versions import Decided
from stream.kafka.ledger import Record
from stream.kafka.offsets import OffsetRange
from stream.outcomes import (
    QUOTA_PREFIX,
    STRONG_ACTIONS,
    Action,
    Decision,
    Quota,
    Review,
    decode_alert,
    decode_decision,
    decode_quota,
    decode_review,
)
from stream.policy import Subject
from stream.records import Label, decode_label
from stream.topics import ALERTS, DECISIONS, LABELS, QUOTAS, REVIEWS

#: After a kill at most this many labels are read that were decided already. Whoever goes back
#: further has moved the group's offsets on purpose, and wants new decisions.
MOST_REPEATED: Final = 50_000
_LAST_FEW: Final = 500
#: An offset that no label has.
_NEVER: Final = 1 << 62
#: So many decisions of a partition are asked what was edited or deleted, for the first review.
_LAST_CHANGED: Final = 100_000
#: A quota's alert of today is looked for among so many of the newest alerts.
_LAST_ALERTS: Final = 5000
#: Decisions are out of order by no more than a worker had in flight when it was killed.
_DISORDER: Final = 20_000


@dataclass(frozen=True, slots=True)
class Names:
    """Full names of the topics."""

    labels: str
    decisions: str
    reviews: str
    quotas: str
    alerts: str

    @classmethod
    def of(cls, prefix: str) -> Names:
        """With a prefix."""
        return cls(
            *(topic.full_name(prefix) for topic in (LABELS, DECISIONS, REVIEWS, QUOTAS, ALERTS)),
        )


@dataclass(slots=True)
class Past:
    """What is known of a partition before a label's offset."""

    #: The last count of its quotas.
    quota: Quota | None = None
    #: By the label's offset, the policy's decisions from that offset on, and the strong ones that
    #: `quota` does not count yet.
    decided: dict[int, Decision] = field(default_factory=dict)
    reviews: list[Review] = field(default_factory=list)


class _BriefPost(msgspec.Struct, frozen=True, gc=False):
    op: str = "create"


class _Brief(msgspec.Struct, frozen=True, gc=False):
    """What is asked of very many decisions: the rest of them costs more to decode."""

    decision_id: str
    post_id: str
    action: str
    label_offset: int | None = None
    retracted: bool = False
    post: _BriefPost | None = None


_decode_brief = msgspec.json.Decoder(_Brief).decode


class Recovery:
    """Reads a partition's past.

    Args:
        reader: reads the topics.
        names: their names.
    """

    def __init__(self, reader: Reader, names: Names) -> None:
        self._reader = reader
        self._names = names

    def past(self, partition: int, offset: int, now_ms: int) -> Past:
        """What to know before the label at an offset is decided on; labels are `labels`."""
        names = self._names
        topics = (names.decisions, names.reviews, names.quotas)
        ranges = self._reader.ranges([(topic, partition) for topic in topics])
        past = Past(quota=self._last_quota(partition, ranges[names.quotas, partition]))
        past.decided = self._decided(
            partition,
            offset,
            0 if past.quota is None else min(offset, past.quota.next_offset),
            ranges[names.decisions, partition],
        )
        past.reviews = self._reviews(partition, ranges[names.reviews, partition], now_ms)
        return past

    def labels(self, partition: int, offset: int, since_ms: int) -> Iterator[Label]:
        """The labels before an offset whose posts are not older than that."""
        topic = self._names.labels
        ((first, _),) = self._reader.ranges([(topic, partition)]).values()
        if first >= offset:
            return

        def reached(record: Record) -> bool | None:
            label = _label(record)
            return None if label is None else Subject.of_label(label).at_ms >= since_ms

        within = OffsetRange(max(first, offset - MAX_ENTRIES), offset)
        start = find(self._reader, topic, partition, within, reached)
        for record in self._reader.read(topic, partition, start, offset):
            label = _label(record)
            if label is not None:
                yield label

    def acted(self, partition: int, before: int, since_ms: int) -> Iterator[Decision]:
        """Decisions on labels before an offset, of posts not older than that: to flag or more.

        And to allow what was decided so before: it was edited, or labelled by another model.
        """
        topic = self._names.decisions
        ((first, end),) = self._reader.ranges([(topic, partition)]).values()

        def reached(record: Record) -> bool | None:
            decision = _decision(record)
            if decision is None or decision.label_offset is None or decision.origin is None:
                return None
            return decision.origin.timestamp_ms >= since_ms

        within = OffsetRange(max(first, end - MAX_ENTRIES), end)
        start = find(self._reader, topic, partition, within, reached)
        acted: set[str] = set()
        for record in self._reader.read(topic, partition, start, end):
            brief = _brief(record)
            if brief is None or brief.label_offset is None or brief.label_offset >= before:
                continue
            if brief.action == Action.ALLOW and brief.post_id not in acted:
                continue
            acted.add(brief.post_id)
            decision = _decision(record)
            if decision is not None:
                yield decision

    def newest(self, partition: int) -> Iterator[Decided]:
        """What is needed to know which posts were edited or deleted, of the newest decisions."""
        topic = self._names.decisions
        ((first, end),) = self._reader.ranges([(topic, partition)]).values()
        start = max(first, end - _LAST_CHANGED)
        for record in self._reader.read(topic, partition, start, end):
            brief = _brief(record)
            if brief is not None:
                yield brief

    def last_quota(self, partition: int) -> Quota | None:
        """The last count of a partition's quotas."""
        place = (self._names.quotas, partition)
        return self._last_quota(partition, self._reader.ranges([place])[place])

    def strong(self, partition: int, kept: Quota | None) -> dict[int, Decision]:
        """By the label's offset, the strong decisions that a partition's last count does not count."""
        place = (self._names.decisions, partition)
        within = self._reader.ranges([place])[place]
        counted = 0 if kept is None else kept.next_offset
        return self._decided(partition, _NEVER, counted, within)

    def quotas(self) -> list[Quota]:
        """The last count of every partition."""
        within = self._reader.partitions(self._names.quotas)
        counts = [self._last_quota(number, each) for number, each in within.items()]
        return [count for count in counts if count is not None]

    def quota_alerts(self) -> dict[str, str]:
        """By id, the last state of the quotas' alerts that were published."""
        place = (self._names.alerts, 0)
        within = self._reader.ranges([place])[place]
        start = max(within.first, within.end - _LAST_ALERTS)
        states: dict[str, str] = {}
        for record in self._reader.read(*place, start, within.end):
            try:
                alert = decode_alert(record.value or b"")
            except msgspec.DecodeError:
                continue
            if alert.rule.startswith(QUOTA_PREFIX):
                states[alert.alert_id] = alert.state
        return states

    def decision_on(self, place: tuple[int, int], decision_id: str) -> Decision | None:
        """The policy's decision with that id, about a post at (partition, offset); None: gone."""
        partition, post_offset = place
        topic = self._names.decisions
        (within,) = self._reader.ranges([(topic, partition)]).values()

        def reached(record: Record) -> bool | None:
            decision = _decision(record)
            if decision is None or decision.label_offset is None or decision.origin is None:
                return None
            return decision.origin.offset >= post_offset

        near = find(self._reader, topic, partition, within, reached)
        start, end = max(within.first, near - _DISORDER), min(within.end, near + _DISORDER)
        for stretch in ((near, end), (start, near)):
            for record in self._reader.read(topic, partition, *stretch):
                if decision_id.encode() in (record.value or b""):
                    decision = _decision(record)
                    if decision is not None and decision.decision_id == decision_id:
                        return decision
        return None

    def _last_quota(self, partition: int, within: OffsetRange) -> Quota | None:
        start = max(within.first, within.end - 20)
        last = None
        for record in self._reader.read(self._names.quotas, partition, start, within.end):
            try:
                last = decode_quota(record.value or b"")
            except msgspec.DecodeError:
                continue
        return last

    def _decided(
        self, partition: int, offset: int, counted: int, within: OffsetRange
    ) -> dict[int, Decision]:
        """The decisions on labels from `offset` on, and the strong ones from `counted` on.

        Read from the end, in growing stretches.
        """
        topic, length = self._names.decisions, _LAST_FEW
        while True:
            start = max(within.first, within.end - length)
            found: dict[int, Decision] = {}
            last, far_enough = -1, start == within.first
            for record in self._reader.read(topic, partition, start, within.end):
                decision = _decision(record)
                if decision is None or decision.label_offset is None:
                    continue
                at = last = decision.label_offset
                if at >= offset or (at >= counted and decision.action in STRONG_ACTIONS):
                    found[at] = decision
                far_enough = far_enough or at < counted
            if last - offset > MOST_REPEATED:
                return {}
            if far_enough or length > 4 * MOST_REPEATED:
                return found
            length *= 8

    def _reviews(self, partition: int, within: OffsetRange, now_ms: int) -> list[Review]:
        """The reviews of posts that may still have a decision, up to the end."""
        topic = self._names.reviews
        since_ms = now_ms - (DECISIONS.retention_s or 7 * 86_400) * 1000
        start = find(
            self._reader, topic, partition, within, lambda record: record.timestamp >= since_ms
        )
        found = []
        for record in self._reader.read(topic, partition, start, within.end):
            try:
                found.append(decode_review(record.value or b""))
            except msgspec.DecodeError:
                continue  # a dead letter of it is written when it is read in its turn
        return found


def _label(record: Record) -> Label | None:
    try:
        return decode_label(record.value or b"")
    except msgspec.DecodeError:
        return None


def _brief(record: Record) -> _Brief | None:
    try:
        return _decode_brief(record.value or b"")
    except msgspec.DecodeError:
        return None


def _decision(record: Record) -> Decision | None:
    try:
        return decode_decision(record.value or b"")
    except msgspec.DecodeError:
        return None
