"""What waits for one target, and what is to be sent next. Pure: the caller brings the clock.

Invariants: of one subject (a post, an alert) at most one event is out, and always the oldest one
that is not resolved; an event is resolved exactly once, as delivered or as failed; at most
`concurrency` attempts are out.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stream.hooks.breaker import Breaker
from stream.hooks.events import Event
from stream.hooks.schedule import delay_s, patience_s
from stream.hooks.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """How a target wants to be treated.

    Args:
        concurrency: most attempts at once.
        per_s: most attempts a second; None: as many as there are.
        batch: most events of one attempt.
        batch_s: longest wait for a batch to fill.
        schedule: seconds before each attempt of an event.
        failures: so many failures in a row open the breaker.
        open_s: how long it stays open the first time.
        most_open_s: how long at most.
    """

    concurrency: int = 4
    per_s: float | None = None
    batch: int = 1
    batch_s: float = 0.0
    schedule: Sequence[float] = (0,)
    failures: int = 5
    open_s: float = 30.0
    most_open_s: float = 300.0


@dataclass(slots=True, eq=False)
class Item:
    """An event on its way.

    Args:
        event: what is delivered.
        ticket: whatever the caller wants to have back.
        attempt: attempts so far.
        step: how far it is in the schedule.
        due: when it is to be tried, seconds since the epoch.
        since: when it first came here; by default it never waits too long.
        alone: not in a batch: a batch with it was refused.
    """

    event: Event
    ticket: Any = None
    attempt: int = 0
    step: int = 0
    due: float = 0.0
    since: float = math.inf
    alone: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one item of an attempt; `next_at` where it will be tried again."""

    item: Item
    state: Literal["delivered", "retrying", "failed"]
    error: str | None = None
    next_at: float | None = None


class Outbox:
    """The queue of one target.

    Args:
        limits: how the target wants to be treated.
        spread: numbers of [0, 1), for the jitter.
    """

    def __init__(self, limits: Limits, *, spread: Callable[[], float] = random.random) -> None:
        self.limits = limits
        self._spread = spread
        self._lanes: dict[str, deque[Item]] = {}
        #: The first of each lane that is not out: (due, sequence, item). Stale entries stay.
        self._heads: list[tuple[float, int, Item]] = []
        self._sequence = itertools.count()
        self._out: set[Item] = set()
        self._attempts_out = 0
        self._blocked_until = 0.0
        self._tokens = self._burst
        self._tokens_at = 0.0
        self.breaker = Breaker(limits.failures, limits.open_s, limits.most_open_s)
        #: Why nothing is sent any more; the target said that it is gone.
        self.disabled: str | None = None

    def __len__(self) -> int:
        """Items that are not resolved."""
        return sum(map(len, self._lanes.values()))

    @property
    def out(self) -> int:
        """Attempts that are being made."""
        return self._attempts_out

    def put(self, item: Item) -> None:
        """Add an item; those of one subject in their order."""
        lane = self._lanes.setdefault(item.event.subject, deque())
        lane.append(item)
        if lane[0] is item:
            self._queue(item)

    def take(self, now: float) -> list[Item]:
        """The items of the attempt to make now; none where there is nothing to do yet."""
        if self.wait_s(now) != 0:
            return []
        trial = self.breaker.state(now) == "half-open"
        first = heapq.heappop(self._heads)[2]
        first.early = trial and first.due > now
        batch = [first]
        if not (trial or first.alone):
            kept: list[Item] = []
            while len(batch) < self.limits.batch and (head := self._head()) and head.due <= now:
                entry = heapq.heappop(self._heads)
                (kept if head.alone else batch).append(entry[2])
            for item in kept:
                self._queue(item)
        self._out.update(batch)
        self._attempts_out += 1
        self._spend(now)
        return batch

    def wait_s(self, now: float) -> float | None:
        """Seconds until `take` is worth a call: 0 is now, None is not before something changes."""
        head = self._head()
        if head is None or self.disabled is not None:
            return None
        if self._attempts_out >= self.limits.concurrency:
            return None
        state = self.breaker.state(now)
        if state == "half-open":
            # One at a time, whatever else is due; not waiting for its own time.
            return None if self._attempts_out else max(0.0, self._blocked_until - now)
        wait_s = max(0.0, head.due - now, self._blocked_until - now, self._token_wait_s(now))
        if state == "open" and self.breaker.open_until is not None:
            return max(wait_s, self.breaker.open_until - now)
        if wait_s == 0 and not head.alone and self.limits.batch > 1:
            fills_s = head.due + self.limits.batch_s - now
            if fills_s > 0 and self._due(now) < self.limits.batch:
                return fills_s
        return wait_s

    def settle(self, batch: Sequence[Item], verdict: Verdict, now: float) -> list[Settled]:
        """Note what came of an attempt; the resolved items are gone from the outbox."""
        self._attempts_out -= 1
        self._out.difference_update(batch)
        self._note_target(verdict, now)
        if verdict.outcome is Outcome.REFUSED and len(batch) > 1:
            # One of them is what the target does not take: which, the next attempts show.
            for item in batch:
                item.alone, item.due = True, now
                self._queue_again(item)
            return []
        return [self._settled(item, verdict, now) for item in batch]

    def expire(self, now: float) -> list[Settled]:
        """Give up what has waited for longer than the whole schedule for a target that is down."""
        patience = patience_s(self.limits.schedule)
        given_up = []
        for lane in list(self._lanes.values()):
            while lane and lane[0] not in self._out and now - lane[0].since > patience:
                item = lane[0]
                self._resolve(item)
                error = self.disabled or "the target did not come back in time"
                given_up.append(Settled(item, "failed", error))
        return given_up

    def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget items without resolving them: somebody else delivers them."""
        lanes: dict[str, deque[Item]] = {}
        for subject, lane in self._lanes.items():
            kept = deque(item for item in lane if not unwanted(item))
            if kept:
                lanes[subject] = kept
        self._lanes = lanes
        self._heads = []
        for lane in lanes.values():
            if lane[0] not in self._out:
                self._queue(lane[0])

    # -- what came back

    def _note_target(self, verdict: Verdict, now: float) -> None:
        match verdict.outcome:
            case Outcome.DELIVERED | Outcome.REFUSED:
                if self.breaker.success():
                    self._all_due(now)
            case Outcome.FAILED:
                self.breaker.failure(now)
                if verdict.retry_after_s is not None:
                    self._blocked_until = max(self._blocked_until, now + verdict.retry_after_s)
            case Outcome.SLOW_DOWN:
                wait_s = verdict.retry_after_s
                if wait_s is None:
                    wait_s = 5.0
                self._blocked_until = max(self._blocked_until, now + wait_s)
            case Outcome.GONE:
                self.disabled = f"the target is gone: {verdict.error}"

    def _settled(self, item: Item, verdict: Verdict, now: float) -> Settled:
        item.attempt += 1
        match verdict.outcome:
            case Outcome.DELIVERED:
                self._resolve(item)
                return Settled(item, "delivered")
            case Outcome.REFUSED:
                self._resolve(item)
                return Settled(item, "failed", verdict.error)
            case Outcome.GONE:
                self._queue_again(item)
                return Settled(item, "retrying", self.disabled)
            case Outcome.SLOW_DOWN:
                # The target lives and asks for time: that uses up nothing of the schedule.
                item.due = max(now, self._blocked_until)
                self._queue_again(item)
                return Settled(item, "retrying", verdict.error, item.due)
            case _:
                return self._again(item, verdict, now)

    def _again(self, item: Item, verdict: Verdict, now: float) -> Settled:
        # A trial of a broken target, ahead of the item's own time, uses up nothing of its schedule.
        early, item.early = item.early, False
        if not early:
            item.step += 1
            delay = delay_s(self.limits.schedule, item.step, self._spread)
            if delay is None:
                self._resolve(item)
                return Settled(item, "failed", verdict.error)
            item.due = max(now + delay, self._blocked_until)
        self._queue_again(item)
        return Settled(item, "retrying", verdict.error, item.due)

    def _all_due(self, now: float) -> None:
        """The target is back: what waits for it need not wait for its own time."""
        self._heads = []
        for lane in self._lanes.values():
            for item in lane:
                item.due = min(item.due, now)
            if lane[0] not in self._out:
                self._queue(lane[0])

    # -- lanes and heads

    def _queue(self, item: Item) -> None:
        heapq.heappush(self._heads, (item.due, next(self._sequence), item))

    def _queue_again(self, item: Item) -> None:
        lane = self._lanes.get(item.event.subject)
        if lane and lane[0] is item:
            self._queue(item)

    def _resolve(self, item: Item) -> None:
        lane = self._lanes.get(item.event.subject)
        if not lane or lane[0] is not item:
            return  # discarded while it was out
        lane.popleft()
        if lane:
            self._queue(lane[0])
        else:
            del self._lanes[item.event.subject]

    def _head(self) -> Item | None:
        """The head that is due first; drops entries that are no heads any more."""
        while self._heads:
            due, _, item = self._heads[0]
            lane = self._lanes.get(item.event.subject)
            if lane and lane[0] is item and item not in self._out and due == item.due:
                return item
            heapq.heappop(self._heads)
        return None

    def _due(self, now: float) -> int:
        """Heads that are due, counted up to a batch."""
        return sum(
            1
            for _ in itertools.islice(
                (entry for entry in self._heads if entry[0] <= now), self.limits.batch
            )
        )

    # -- rate

    @property
    def _burst(self) -> float:
        return max(1.0, self.limits.per_s or 1.0)

    def _token_wait_s(self, now: float) -> float:
        if self.limits.per_s is None:
            return 0.0
        return max(0.0, (1.0 - self._filled(now)) / self.limits.per_s)

    def _filled(self, now: float) -> float:
        assert self.limits.per_s is not None
        passed_s = max(0.0, now - self._tokens_at)
        # A hair more: a wait that is rounded down must not lead to another of zero length.
        return min(self._burst, self._tokens + passed_s * self.limits.per_s + 1e-9)

    def _spend(self, now: float) -> None:
        if self.limits.per_s is not None:
            self._tokens, self._tokens_at = self._filled(now) - 1.0, now
