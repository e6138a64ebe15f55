"""Alert rules that people muted: what is kept back from targets, and told when the mute ends.

The invariant: an episode that fired while its rule was muted is not told, neither its beginning nor
its end, unless it is still open when the mute ends; then it is told, once. Whether it was muted
depends on when the alert was published and on the topic `audit` alone, so that a restart comes to
the same answer.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from stream.hooks.events import Event
from stream.hooks.log import REMEMBERED
from stream.kafka.offsets import OffsetRange
from stream.kafka.scan import open_scanner
from stream.outcomes import Alert, AuditEvent, decode_audit_event
from stream.settings import KafkaSettings
from stream.times import timestamp_ms
from stream.topics import AUDIT

#: What was read so shortly ago is not read again: alerts come in crowds.
_FRESH_S: Final = 1.0
#: Between looks whether a mute has ended, while something is kept back.
LOOK_EVERY_S: Final = 2.0


class Mutes:
    """Which rules were muted, and when; `read` brings it up to date with the topic."""

    def __init__(self) -> None:
        #: By rule what was said, in its order: (when, the event's id, until when).
        self._said: dict[str, list[tuple[int, str, int]]] = {}
        self._next: dict[int, int] = {}
        self._read_at = -_FRESH_S

    def read(self, kafka: KafkaSettings) -> None:
        """Read what is new on `audit`, unless that was done a moment ago. Blocks.

        Raises:
            BrokerError: the broker does not answer, or goes away in the middle.
        """
        if time.monotonic() - self._read_at < _FRESH_S:
            return
        topic = AUDIT.full_name(kafka.topic_prefix)
        with open_scanner(kafka) as scanner:
            there = scanner.ranges(topic)[topic]
            new = {number: self._new(number, each) for number, each in there.items()}
            for record in scanner.read(topic, new):
                if b'"alert.' in (value := record.value or b""):
                    self._note(value)
        self._next = {number: each.end for number, each in there.items()}
        self._read_at = time.monotonic()

    def _new(self, number: int, there: OffsetRange) -> OffsetRange:
        begin = self._next.get(number, there.end - REMEMBERED)
        # Past its end: the topic was made anew.
        known = begin if begin <= there.end else 0
        return OffsetRange(max(there.first, known), there.end)

    def _note(self, value: bytes) -> None:
        try:
            self.note(decode_audit_event(value))
        except (msgspec.DecodeError, ValueError, TypeError):
            return

    def note(self, event: AuditEvent) -> None:
        """Somebody did something.

        Raises:
            ValueError, TypeError: the event has no time, or no end of the mute.
        """
        if event.what in ("alert.mute", "alert.unmute"):
            said = (timestamp_ms(event.at), event.event_id, int(event.detail.get("until_ms", 0)))
            insort(self._said.setdefault(event.on, []), said)

    def in_force(self, rule: str, at_ms: int) -> bool:
        """Whether the rule was muted then: the last word before counts."""
        untils = [until for since, _, until in self._said.get(rule, ()) if since <= at_ms]
        return bool(untils) and untils[-1] > at_ms


class KeptBack:
    """The episodes of one target that are not told, or not yet. Pure.

    Args:
        mutes: what is muted.
        told: whether the target's log says that an event was delivered or given up.
    """

    def __init__(self, mutes: Mutes, told: Callable[[Event], bool] = lambda _: False) -> None:
        self._mutes = mutes
        self._was_told = told
        #: By the alert's id the event that fired; None: it is over, and nobody will hear of it.
        self._held: dict[str, Event | None] = {}
        self._told: set[str] = set()

    def __len__(self) -> int:
        """How many wait for the end of a mute."""
        return sum(event is not None for event in self._held.values())

    def begin(self, alerts: Iterable[tuple[Event, int]]) -> None:
        """Know what was published before, oldest first, each with the time of its record."""
        for event, published_ms in alerts:
            self.keeps(event, published_ms)

    def keeps(self, event: Event, published_ms: int) -> bool:
        """Whether the target is not to be told of this, or not in this way.

        True also for what `release` has given out: it is on its way.
        """
        alert = event.record
        if not isinstance(alert, Alert) or alert.test:
            return False
        if alert.state == "resolved":
            if alert.alert_id not in self._held:
                return False
            self._held[alert.alert_id] = None
            return True
        if not self._mutes.in_force(alert.rule, published_ms):
            return False
        if self._was_told(event):
            self._told.add(alert.alert_id)
        if alert.alert_id not in self._told:
            self._held.setdefault(alert.alert_id, event)
        return True

    def holds(self, event: Event) -> bool:
        """Whether the event's episode is kept back."""
        return event.subject in self._held

    def release(self, now_ms: int) -> list[Event]:
        """What still fires and is muted no more: to be told now."""
        free = [
            event
            for event in self._held.values()
            if event is not None
            and isinstance(event.record, Alert)
            and not self._mutes.in_force(event.record.rule, now_ms)
        ]
        for event in free:
            del self._held[event.subject]
            self._told.add(event.subject)
        return free


class Loose:
    """The ticket of what is told later: its place was committed when it was read."""

    def __init__(self) -> None:
        #: The partitions were taken away: their next owner keeps it back, or tells it.
        self.dropped = False

    def resolve(self) -> None:
        """Nothing is to be committed."""
