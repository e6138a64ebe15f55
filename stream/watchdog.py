"""Ends a worker that holds partitions and makes no progress, or that does not manage to stop.

Runs in a thread of its own: a blocked event loop is one of the things it must notice. It never
decides about offsets; a worker that it ends has committed nothing that was not delivered.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from stream.errors import StallError, TidegateError
from stream.logs import get_logger

log = get_logger(__name__)

_TICK_S: Final = 0.25
#: A crashed worker gets this long for an orderly end; with the broker gone there is none.
_CRASH_GRACE_S: Final = 8.0
#: Over `worker.stop_timeout_s`: leaving the group and closing connections.
_STOP_GRACE_S: Final = 10.0
_REPORT_S: Final = 10.0


class Progress:
    """How long something has stood still."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._value: object = None
        self._since = now()

    def seconds(self, value: object, *, due: bool = True) -> float:
        """Seconds since `value` last changed; 0 while nothing is `due`."""
        if not due or value != self._value:
            self._value = value
            self._since = self._now()
        return self._now() - self._since


class Watchdog(threading.Thread):
    """Watches one worker.

    Args:
        app: the Faust app, started or about to be.
        loop: the app's event loop.
        stall_timeout_s: no progress for this long with work at hand ends the worker.
        stop_timeout_s: longest wait for posts in flight after a signal.
        end: called with the error and never expected to return; ends the process.
    """

    def __init__(
        self,
        app: Any,
        loop: asyncio.AbstractEventLoop,
        *,
        stall_timeout_s: float,
        stop_timeout_s: float,
        end: Callable[[TidegateError], None],
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._app = app
        self._loop = loop
        self._stall_timeout_s = stall_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._end = end
        self._done = threading.Event()
        self._beat = 0
        self._working, self._beating, self._polling, self._resuming = (Progress() for _ in range(4))
        self._report_at, self._reported = time.monotonic() + _REPORT_S, 0
        self._stopping_since: float | None = None
        self._crashed_since: float | None = None
        self._error: TidegateError | None = None

    def stopping(self) -> None:
        """A signal arrived: from now on the worker has a deadline."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()

    def finished(self) -> None:
        """The worker has ended by itself."""
        self._done.set()

    def run(self) -> None:
        """Look every quarter of a second until `finished`."""
        while not self._done.wait(_TICK_S):
            self._check_deadlines()
            if self._stopping_since is None and self._crashed_since is None:
                self._look()

    def _look(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._count_beat)
        limit = self._stall_timeout_s
        app = self._app
        consumer, flow = app._consumer, app.flow  # noqa: SLF001
        if self._beating.seconds(self._beat) > limit:
            self._stall("the event loop is blocked")
        if consumer is None or (flow is None and app.role.name == "label"):
            return  # loading its models
        ledger = consumer.ledger
        done = (ledger.confirmed_records, app.progress() if app.progress is not None else None)
        due = ledger.records > 0 and not app.idle_with_work
        if self._working.seconds(done, due=due) > limit:
            what = "posts" if app.role.name == "label" else "records"
            self._stall(f"{ledger.records} {what} are in flight and none was delivered")
        elif self._polling.seconds(consumer.polls, due=consumer.flow_active) > limit:
            self._stall("nothing is read from the partitions it holds")
        elif self._resuming.seconds(0, due=not consumer.flow_active) > 2 * limit:
            self._stall("a rebalance does not end")
        if flow is not None and time.monotonic() >= self._report_at:
            self._report_at += _REPORT_S
            self._report(flow.counts)

    def _report(self, counts: Any) -> None:
        posts = counts.posts - self._reported
        if posts:
            self._reported = counts.posts
            per_s = round(posts / _REPORT_S, 1)
            if self._app.role.name == "label":
                log.info(
                    "labelled",
                    labels=counts.labels,
                    dead_letters=counts.dead_letters,
                    posts_per_s=per_s,
                )
            else:
                log.info(
                    "handled",
                    records=counts.labels,
                    dead_letters=counts.dead_letters,
                    records_per_s=per_s,
                )

    def _count_beat(self) -> None:
        self._beat += 1

    def _stall(self, what: str) -> None:
        self._error = StallError(
            f"no progress for {self._stall_timeout_s:g} s: {what}",
            hint="start the worker again: it goes on where it stopped. "
            "`worker.stall_timeout_s` says how patient it is",
        )
        log.error("stalled", reason=what)
        self._crashed_since = time.monotonic()
        asyncio.run_coroutine_threadsafe(self._app.crash(self._error), self._loop)

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self._crashed_since is None and self._app.crashed:
            self._crashed_since = now
        if self._crashed_since is not None and now - self._crashed_since > _CRASH_GRACE_S:
            self._end(self._error or error_of(self._app.crash_reason))
        if self._stopping_since is not None and (
            now - self._stopping_since > self._stop_timeout_s + _STOP_GRACE_S
        ):
            self._end(
                StallError(
                    "the worker did not stop in time; what was not committed will be read again",
                    hint="`worker.stop_timeout_s` says how long posts in flight may take",
                )
            )


def error_of(reason: BaseException | None) -> TidegateError:
    """What ended a worker, as an error for its user; a surprise is logged with its traceback."""
    from aiokafka.errors import KafkaError

    from stream.errors import BrokerError

    while isinstance(reason, BaseExceptionGroup):
        reason = reason.exceptions[0]
    if isinstance(reason, TidegateError):
        return reason
    if isinstance(reason, KafkaError):
        return BrokerError(
            f"the broker failed us: {reason}",
            hint="nothing undelivered was committed: start the worker again and it goes on there",
        )
    log.error("unexpected failure", exc_info=reason)
    return TidegateError(
        f"the worker failed: {reason!r}", hint="the log above has the details; please report them"
    )
