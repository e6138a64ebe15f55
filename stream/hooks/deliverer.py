"""The loop of one target: takes from the outbox, sends, notes what came of it.

The invariant: an event's ticket is resolved only when the broker has the log of its delivery, or
of its failure with the original; until then nothing is committed past it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from stream.hooks.events import Event
from stream.hooks.outbox import Item, Outbox, Settled
from stream.hooks.senders import Sender, now_utc
from stream.hooks.verdict import Outcome, Verdict
from stream.logs import get_logger
from stream.outcomes import DELIVERY_SCHEMA, Delivery
from stream.records import rfc3339

log = get_logger(__name__)

#: Between looks at what has waited for too long.
_EXPIRE_EVERY_S: Final = 30.0
#: The longest wait without looking again, whatever the outbox says.
_MOST_WAIT_S: Final = 5.0


class Deliverer:
    """Delivers what is put into its outbox.

    Args:
        target: the target's name.
        outbox: the queue, with the target's limits.
        sender: makes the attempts.
        record: writes the log; returns when it is safe.
        resolved: told of each item that is delivered or given up, after its log is safe.
        paused: whether no attempt may begin now: a rebalance is on.
        now: the clock, seconds since the epoch.
    """

    def __init__(
        self,
        target: str,
        outbox: Outbox,
        sender: Sender,
        *,
        record: Callable[[Sequence[Delivery]], Awaitable[None]],
        resolved: Callable[[Item], None] = lambda _: None,
        paused: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._target = target
        self.outbox = outbox
        self._sender = sender
        self._record = record
        self._resolved = resolved
        self._paused = paused
        self._now = now
        self._changed = asyncio.Event()
        self._expire_at = 0.0
        self._was_open = False
        #: Attempts ever finished: the watchdog sees that there is life.
        self.attempts = 0
        self.delivered = 0
        self.failed = 0
        #: Attempts in the air, and logs on their way.
        self.working = 0

    def put(self, items: Sequence[Item]) -> None:
        """Add items; those of one subject in their order."""
        for item in items:
            self.outbox.put(item)
        self._changed.set()

    def look_again(self) -> None:
        """Something changed that the loop cannot see."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver until cancelled.

        Raises:
            DeliveryError: the log could not be written.
        """
        async with asyncio.TaskGroup() as attempts:
            while True:
                self._changed.clear()
                await self._expire()
                while not self._paused() and (batch := self.outbox.take(self._now())):
                    attempts.create_task(self._attempt(batch))
                wait_s = self.outbox.wait_s(self._now())
                if self._paused() or wait_s is None:
                    wait_s = _MOST_WAIT_S
                try:
                    async with asyncio.timeout(min(max(wait_s, 0.001), _MOST_WAIT_S)):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    async def run_until_empty(self) -> None:
        """Deliver what is in the outbox; stops early where the target turns out to be down.

        Raises:
            DeliveryError: the log could not be written.
        """
        running = asyncio.ensure_future(self.run())
        try:
            while self.working or (len(self.outbox) and self._is_well):
                await asyncio.wait({running}, timeout=0.02)
                if running.done():
                    running.result()
        finally:
            running.cancel()
            await asyncio.wait({running})

    @property
    def _is_well(self) -> bool:
        return self.outbox.disabled is None and self.outbox.breaker.open_until is None

    async def _attempt(self, batch: list[Item]) -> None:
        self.working += 1
        try:
            begun = time.monotonic()
            verdict = await self._sent([item.event for item in batch])
            elapsed_ms = int((time.monotonic() - begun) * 1000)
            settled = self.outbox.settle(batch, verdict, self._now())
            self.attempts += 1
            self._tell(verdict, len(batch))
            await self._finish(settled, verdict, elapsed_ms)
        finally:
            self.working -= 1
            self._changed.set()

    async def _sent(self, events: Sequence[Event]) -> Verdict:
        try:
            return await self._sender.send(events, now_utc())
        except Exception as exc:
            # A mistake of ours in one record's format must not end the target, nor lose the record.
            log.exception("hook attempt failed unexpectedly", target=self._target)
            return Verdict(Outcome.REFUSED, None, f"it cannot be sent: {type(exc).__name__}")

    async def _expire(self) -> None:
        if (now := self._now()) < self._expire_at:
            return
        self._expire_at = now + _EXPIRE_EVERY_S
        if given_up := self.outbox.expire(now):
            log.error("hook gave up", target=self._target, records=len(given_up))
            await self._finish(given_up, None, None)

    async def _finish(
        self, settled: Sequence[Settled], verdict: Verdict | None, elapsed_ms: int | None
    ) -> None:
        if not settled:
            return
        at = rfc3339(int(self._now() * 1000))
        await self._record(
            [delivery_of(self._target, each, verdict, elapsed_ms, at) for each in settled]
        )
        for each in settled:
            if each.state == "retrying":
                continue
            self.delivered += each.state == "delivered"
            self.failed += each.state == "failed"
            self._resolved(each.item)

    def _tell(self, verdict: Verdict, events: int) -> None:
        """What an operator must hear of: the first failures, the breaker, the end of a target."""
        is_open = self.outbox.breaker.open_until is not None
        if verdict.outcome is Outcome.GONE:
            log.error("hook disabled", target=self._target, status=verdict.status)
        elif verdict.outcome is Outcome.REFUSED:
            log.error("hook refused", target=self._target, status=verdict.status, records=events)
        elif is_open and not self._was_open:
            log.warning("hook is failing", target=self._target, status=verdict.status)
        elif self._was_open and not is_open:
            log.info("hook is back", target=self._target)
        elif verdict.outcome is Outcome.FAILED:
            log.info("hook will be tried again", target=self._target, status=verdict.status)
        self._was_open = is_open


def delivery_of(
    target: str,
    settled: Settled,
    verdict: Verdict | None,
    elapsed_ms: int | None,
    at: str,
) -> Delivery:
    """The log's record of one attempt; one that is given up carries its original."""
    item, event = settled.item, settled.item.event
    extra: dict[str, Any] = {}
    if settled.state == "failed":
        extra["original"] = event.original
    if settled.next_at is not None:
        extra |= {"next_at": rfc3339(int(settled.next_at * 1000)), "step": item.step}
    return Delivery(
        schema=DELIVERY_SCHEMA,
        delivery_id=delivery_id(target, event, item.attempt),
        target=target,
        kind=event.kind,
        record_id=event.record_id,
        state=settled.state,
        attempt=item.attempt,
        at=at,
        post_id=event.post_id,
        status=None if verdict is None else verdict.status,
        error=settled.error or (None if verdict is None else verdict.error),
        elapsed_ms=elapsed_ms,
        **extra,
    )


def delivery_id(target: str, event: Event, attempt: int) -> str:
    """`target/topic/partition/offset#attempt`: the same attempt has the same id after a crash."""
    place = event.message_id if event.place is None else str(event.place)
    return f"{target}/{place}#{attempt}"
