"""How far a target has got in its topics: what is resolved, and what may be committed. Pure.

The invariants: a span is done when every event in it that the target wanted is resolved, and
`done` is called for spans of one partition in no particular order (the ledger commits in order);
`ahead` counts the events behind the oldest unresolved one, resolved or not, and bounds both the
memory and what a crash delivers a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from stream.kafka.ledger import Partition, Span


class Ticket:
    """One span, and how many of its events are not resolved."""

    __slots__ = ("_window", "events", "left", "records", "span")

    def __init__(self, window: Window, span: Span, events: int) -> None:
        self._window = window
        self.span = span
        self.events = events
        self.records = span.count
        self.left = events

    @property
    def dropped(self) -> bool:
        """The partition was taken away: its next owner delivers this."""
        return self.span.dropped

    def resolve(self) -> None:
        """One event was delivered or given up, and its log is with the broker."""
        self.left -= 1
        if self.left == 0:
            self._window._finished(self)  # noqa: SLF001 - a ticket is a part of its window


class Window:
    """The spans of one target that are not behind it.

    Args:
        most_events: as far as the target may run ahead of its oldest unresolved event.
        most_records: the same in records, most of which a target may not want at all.
        done: told of each span that is done; the ledger's `confirm`.
    """

    def __init__(
        self, most_events: int, most_records: int, done: Callable[[list[Any]], None]
    ) -> None:
        self._most_events = most_events
        self._most_records = most_records
        self._done = done
        self._open: dict[Partition, deque[Ticket]] = {}
        self.ahead = 0
        self.records = 0

    @property
    def has_room(self) -> bool:
        """Whether the next span may come."""
        return self.ahead < self._most_events and self.records < self._most_records

    def open(self, span: Span, events: int) -> Ticket:
        """A span was read and holds so many events for the target; without any it is done."""
        ticket = Ticket(self, span, events)
        self._open.setdefault(span.partition, deque()).append(ticket)
        self.ahead += events
        self.records += ticket.records
        if events == 0:
            self._finished(ticket)
        return ticket

    def forget(self, partitions: Iterable[Partition] | None = None) -> None:
        """Drop the spans of these partitions, or of all: somebody else has them."""
        for partition in list(self._open) if partitions is None else partitions:
            for ticket in self._open.pop(partition, ()):
                self._release(ticket)

    def forget_dropped(self) -> None:
        """Drop the spans that the ledger has dropped."""
        for partition, tickets in self._open.items():
            kept = deque(ticket for ticket in tickets if not ticket.dropped)
            for ticket in tickets:
                if ticket.dropped:
                    self._release(ticket)
            self._open[partition] = kept

    def _finished(self, ticket: Ticket) -> None:
        self._done([ticket.span])
        # Behind a stuck event there may be many: their records are of no more use.
        ticket.span.free()
        tickets = self._open.get(ticket.span.partition)
        while tickets and tickets[0].left == 0:
            self._release(tickets.popleft())

    def _release(self, ticket: Ticket) -> None:
        self.ahead -= ticket.events
        self.records -= ticket.records
