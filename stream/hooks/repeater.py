"""Alerts that still fire, sent again and again to an Alertmanager, which forgets them otherwise.

The invariant: a repetition never arrives after the resolve of its episode; both go through here,
one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice

from stream.hooks.events import Event
from stream.hooks.senders import Sender, now_utc
from stream.hooks.verdict import Verdict
from stream.outcomes import Alert


class Repeater:
    """A sender that knows which episodes are open, and repeats them.

    A repetition that fails is no matter: the next one follows.

    Args:
        sender: the target's.
        every_s: how often.
        batch: most alerts of one request.
    """

    def __init__(self, sender: Sender, every_s: float, batch: int) -> None:
        self._sender = sender
        self._every_s = every_s
        self._batch = batch
        self._firing: dict[str, Event] = {}
        self._turn = asyncio.Lock()

    async def send(self, events: Sequence[Event], at: datetime) -> Verdict:
        """An attempt of the target's own sender."""
        async with self._turn:
            return await self._sender.send(events, at)

    async def close(self) -> None:
        """Let go of connections."""
        await self._sender.close()

    @property
    def firing(self) -> list[Event]:
        """The open episodes."""
        return list(self._firing.values())

    def begin(self, alerts: Iterable[Event]) -> None:
        """Forget everything, and know these, oldest first."""
        self._firing.clear()
        for event in alerts:
            self.note(event)

    def note(self, event: Event) -> None:
        """An alert fires or resolves."""
        record = event.record
        if not isinstance(record, Alert):
            return
        if record.state == "firing":
            self._firing[record.alert_id] = event
        else:
            self._firing.pop(record.alert_id, None)

    async def run(self, may_send: Callable[[], bool]) -> None:
        """Repeat until cancelled, while `may_send`."""
        while True:
            await asyncio.sleep(self._every_s)
            if may_send():
                await self.repeat()

    async def repeat(self) -> None:
        """Send every open episode once."""
        async with self._turn:
            waiting = iter(self.firing)
            while batch := list(islice(waiting, self._batch)):
                await self._sender.send(batch, now_utc())
