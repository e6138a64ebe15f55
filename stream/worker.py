"""Runs the Faust app of one role as a process: preflight, signals, watchdog, exit.

A failure of the infrastructure raises out of `run_worker`, and the process ends with code 1; a
SIGTERM or Ctrl-C finishes what is in flight, commits, leaves the group and returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from signal import Signals
from typing import Any, Final

import faust

from stream.app import TidegateApp, create_app
from stream.errors import TidegateError
from stream.flow import THREAD_NAME
from stream.interpreter import tune_interpreter
from stream.logs import get_logger, set_up_logs
from stream.readiness import output_limits
from stream.roles import Duty, group_of, role_named
from stream.settings import Settings
from stream.watchdog import Watchdog, error_of

log = get_logger(__name__)

#: Longest wait, at the very end, for threads that are at work: a model, or a question to a broker.
_THREADS_GRACE_S: Final = 1.0
LABELLING: Final = Duty("label")


class _Worker(faust.Worker):
    """Faust's worker, less its console; tells the watchdog of signals."""

    def __init__(self, app: TidegateApp, watchdog: Watchdog, **kwargs: Any) -> None:
        super().__init__(app, quiet=True, override_logging=False, **kwargs)
        self.spinner = None
        self._watchdog = watchdog

    def _schedule_shutdown(self, signal: Signals) -> None:
        log.info("stopping", signal=signal.name)
        self._watchdog.stopping()
        super()._schedule_shutdown(signal)

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """The process keeps the name it was started with."""


def run_worker(
    settings: Settings,
    prepared: Any = None,
    *,
    duty: Duty = LABELLING,
    report: Callable[[TidegateError], None] | None = None,
) -> None:
    """Do a duty until a signal, in this process.

    Args:
        settings: all of them.
        prepared: instead of what the role would load; for `label` the scorer.
        duty: the role, and which unit of it.
        report: told of the error that ends the process where it cannot be raised; default: it is
            printed.

    Raises:
        BrokerError: no broker, no topics, or they went away.
        ModelError: the models cannot be loaded, or fail on everything.
        ConfigError: the role's own configuration is wrong.
        StallError: no progress, or no end in time.
    """
    set_up_logs(settings.log)
    begun = time.monotonic()
    others = frozenset(threading.enumerate())
    role = role_named(duty.role)
    output_limits(settings.kafka, role.reads, role.writes)
    if prepared is None:
        prepared = role.prepare(settings)

    def end(error: TidegateError | None) -> None:
        _end_now(error, report)

    loop = _new_loop()
    asyncio.set_event_loop(loop)
    app = create_app(settings, prepared, role=duty.role, unit=duty.unit)
    watchdog = Watchdog(
        app,
        loop,
        stall_timeout_s=settings.worker.stall_timeout_s,
        stop_timeout_s=settings.worker.stop_timeout_s,
        end=end,
    )
    app.on_rebalance_complete.connect(_log_assignment)
    worker = _Worker(app, watchdog, loop=loop)
    log.info(
        "starting",
        role=duty.name,
        bootstrap=settings.kafka.bootstrap,
        group=group_of(settings, duty),
        **_models_of(prepared),
        prepared_s=round(time.monotonic() - begun, 2),
    )
    tune_interpreter()
    watchdog.start()
    try:
        worker.execute_from_commandline()
    except SystemExit:
        pass  # Faust's way to return; its reason is looked at here
    finally:
        watchdog.finished()
        role.release(prepared)
        with contextlib.suppress(RuntimeError):
            asyncio.set_event_loop(None)
    reason = worker.crash_reason or app.crash_reason
    error = None if reason is None else error_of(reason)
    # Python would wait for these threads before it ends, however long a model takes or a broker
    # that is gone is asked.
    at_work = _still_at_work(others)
    if any(thread.name.startswith(THREAD_NAME) for thread in at_work):
        log.warning("a batch is still being computed; its posts will be read again")
    if error is not None:
        if at_work:
            end(error)
        raise error
    _log_counts(app, duty)
    if at_work:
        end(None)


def _log_counts(app: TidegateApp, duty: Duty) -> None:
    if app.flow is None:
        log.info("stopped", records=app.ledger.confirmed_records)
        return
    counts = app.flow.counts
    done = {"labels" if duty.role == "label" else "records": counts.labels}
    log.info("stopped", **done, dead_letters=counts.dead_letters)


def _models_of(prepared: Any) -> dict[str, Any]:
    models = getattr(prepared, "models", None)
    if models is None:
        return {}
    return {"models": {task: model.version for task, model in models.items()}}


async def _log_assignment(app: Any, /, *_: Any, signal: Any, **__: Any) -> None:  # noqa: ARG001 - mode's form
    log.info(
        "reading",
        partitions=sorted(f"{tp.topic}[{tp.partition}]" for tp in app.consumer.assignment()),
    )


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop where there is one: half of what a post costs besides its model."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


def _still_at_work(others: Collection[threading.Thread]) -> list[threading.Thread]:
    """Threads that do not end, of those that Python waits for; `others` are not ours."""
    deadline = time.monotonic() + _THREADS_GRACE_S
    ours = [t for t in threading.enumerate() if t not in others and not t.daemon]
    for thread in ours:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in ours if thread.is_alive()]


def _end_now(
    error: TidegateError | None, report: Callable[[TidegateError], None] | None = None
) -> None:
    """End the process where it does not end by itself: threads and loops are left as they are."""
    if error is not None:
        if report is None:
            from stream.cli.main import print_error

            report = print_error
        report(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if error is None else 1)
