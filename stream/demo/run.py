"""Runs the demo: what is started in which order, what happens when something dies, how it ends.

The invariant: the account that is printed was kept by a reader of the topics, not by the worker;
and what was started is ended, here or, where there is no time for that (kill -9), by the
supervisors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import time
import webbrowser
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from stream.demo.child import Child
from stream.demo.feed import file_feed, shipped_feed
from stream.demo.hook import DemoHook
from stream.demo.processes import Processes
from stream.demo.result import BrokerUsed, DemoResult, result_of
from stream.demo.screen import Screen
from stream.demo.watcher import Watcher
from stream.errors import BrokerError, MissingExtraError, SourceError, TidegateError
from stream.hooks.receiver import receive
from stream.sources.feeder import Feeder
from stream.sources.files import FileSource, Line

#: Posts on their way at any time: two of a worker's batches keep it busy, and few enough that the
#: latency that is measured is the worker's and not that of a queue of our own making.
MOST_OUTSTANDING: Final = 1024
_TICK_S: Final = 0.1
_READY_TIMEOUT_S: Final = 60.0
#: A worker that dies this often without having labelled anything in between will not get better.
_FRUITLESS_RESTARTS: Final = 3
#: Longer than the worker's own patience (`worker.stall_timeout_s`): then posts are missing.
_PATIENCE_S: Final = 90.0
#: An alert of the wave is over when a calm window has passed; it must not hold up the end for good.
_CALM_S: Final = 60.0
#: Nothing decided and nothing delivered for this long: nothing will be.
_QUIET_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user asked for; `source` None is the shipped feed."""

    source: FileSource | None
    rate: float | None
    kafka: str | None
    port: int | None
    exit_when_done: bool
    browser: bool


async def run_demo(options: DemoOptions, screen: Screen) -> DemoResult:
    """Run the demo to its end: all answered, or Ctrl-C.

    Raises:
        TidegateError: something could not be started or died for good; the logs' folder is named.
    """
    processes = Processes(options.kafka, options.port)
    keep_logs = True
    try:
        demo = _Demo(options, screen, processes)
        result = await demo.run()
        keep_logs = not (result.adds_up or result.interrupted)
        return result
    finally:
        await asyncio.shield(asyncio.to_thread(processes.stop, keep_logs=keep_logs))
        if keep_logs:
            screen.say("logs", str(processes.folder), style="yellow")


class _Demo:
    def __init__(self, options: DemoOptions, screen: Screen, processes: Processes) -> None:
        self._options = options
        self._screen = screen
        self._processes = processes
        self._started_s = time.monotonic()
        self._stop = asyncio.Event()
        self._fed = asyncio.Event()
        self._source_error: SourceError | None = None
        self._restarts = 0
        self._hook: DemoHook | None = None

    async def run(self) -> DemoResult:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        try:
            return await self._run()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _run(self) -> DemoResult:
        processes, screen = self._processes, self._screen
        await asyncio.to_thread(processes.start_broker)
        kafka = processes.settings.kafka
        kind = "embedded, in memory" if processes.broker else "given"
        screen.say("broker", f"{kafka.bootstrap} ({kind})")
        worker = processes.start_worker()
        async with (
            Watcher(kafka) as watcher,
            Feeder(kafka, on_confirmed=watcher.confirmed) as feeder,
            self._receiver() as hook,
        ):
            self._hook = hook
            tasks = [
                asyncio.create_task(work)
                for work in (
                    self._keep_worker(worker, watcher),
                    self._feed_when_ready(worker, watcher, feeder),
                    self._show(watcher),
                )
            ]
            try:
                await self._until_done(tasks, watcher)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            self._say_news()
            result = self._result(watcher)
        if self._source_error is not None:
            self._report(result)
            raise self._source_error
        return result

    @contextlib.asynccontextmanager
    async def _receiver(self) -> AsyncIterator[DemoHook | None]:
        """A receiver of our own, unless the user has hooks."""
        if not DemoHook.wanted():
            yield None
            return
        async with receive() as receiver:
            hook = DemoHook(receiver, self._processes.folder)
            self._processes.outcomes_environ |= hook.environ
            yield hook

    async def _until_done(self, tasks: list[asyncio.Task[None]], watcher: Watcher) -> None:
        answered, since_s = 0, time.monotonic()
        while not self._stop.is_set():
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
            watcher.check()
            account = watcher.account
            if account.answered != answered:
                answered, since_s = account.answered, time.monotonic()
            if self._fed.is_set() and self._options.exit_when_done:
                if not account.outstanding:
                    await self._until_calm(watcher)
                    return
                if time.monotonic() - since_s > _PATIENCE_S:
                    places = ", ".join(f"{p}@{o}" for p, o in account.oldest(3))
                    self._screen.say(
                        "missing", f"{account.outstanding:,} posts, e.g. {places}", style="red"
                    )
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TICK_S)

    async def _until_calm(self, watcher: Watcher) -> None:
        """Wait for what follows the labels: decisions, their delivery, the end of what fires.

        As long as something happens; an alert is waited for only where the feed ends calm, as the
        shipped one does; and none of it for good.
        """
        seen: object = None
        since_s = time.monotonic()
        while self._hook is not None and not self._stop.is_set():
            hook = self._hook
            firing = hook.firing if self._options.source is None else 0
            now = (watcher.decided, hook.result.decisions, firing)
            if now != seen:
                seen, since_s = now, time.monotonic()
            delivered = hook.result.decisions >= len(watcher.to_deliver)
            if watcher.decided >= watcher.account.labelled and delivered and not firing:
                return
            # The roles may still be starting; later, silence means that there is no more to come.
            patience_s = _QUIET_S if watcher.decided and not firing else _CALM_S
            if time.monotonic() - since_s > patience_s:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TICK_S)

    async def _keep_worker(self, worker: Child, watcher: Watcher) -> None:
        """Start the worker again when it dies, unless that does not help."""
        fruitless, answered = 0, -1
        while True:
            broker = self._processes.broker
            if broker is not None and not broker.alive:
                raise BrokerError("the embedded broker has ended", where=broker.bootstrap)
            if not worker.alive:
                code = worker.exit_code
                self._screen.say("worker", f"ended with code {code}; its last lines:", style="red")
                self._screen.quote(worker.last_lines())
                fruitless = fruitless + 1 if watcher.account.answered == answered else 0
                answered = watcher.account.answered
                killed = code is not None and code > 128
                if fruitless >= _FRUITLESS_RESTARTS or (answered == 0 and not killed):
                    raise TidegateError(
                        f"the worker ends with code {code} before it labels a post",
                        where=str(worker.log_file),
                        hint="`tidegate doctor` looks for the reason",
                    )
                self._restarts += 1
                worker.start()
                self._screen.say("worker", "started again; it goes on where it stopped")
            await asyncio.sleep(_TICK_S)

    async def _feed_when_ready(self, worker: Child, watcher: Watcher, feeder: Feeder) -> None:
        if not await self._worker_ready(worker):
            self._screen.say("worker", "takes its time; the posts wait for it", style="yellow")
        else:
            self._screen.say("worker", f"ready after {time.monotonic() - self._started_s:.1f} s")
        page = asyncio.create_task(self._open_page())
        outcomes = asyncio.create_task(self._keep_outcomes())
        try:
            await self._feed(watcher, feeder)
            self._fed.set()
            await page
        finally:
            page.cancel()
            outcomes.cancel()
        await asyncio.Event().wait()  # who is cancelled at the end has nothing more to say

    async def _keep_outcomes(self) -> None:
        """Start the roles after labelling, again when they die; without them the demo goes on."""
        outcomes = self._processes.start_outcomes()
        for restart in range(_FRUITLESS_RESTARTS + 1):
            while outcomes.alive:  # noqa: ASYNC110 - a process tells nothing by itself
                await asyncio.sleep(_TICK_S)
            code = outcomes.exit_code
            self._screen.say("outcomes", f"ended with code {code}; its last lines:", style="red")
            self._screen.quote(outcomes.last_lines())
            if restart < _FRUITLESS_RESTARTS:
                outcomes.start()
        self._screen.say("outcomes", "the demo goes on with labels alone", style="red")

    async def _worker_ready(self, worker: Child) -> bool:
        """Wait for the worker's log to say that it reads its partitions."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in worker.new_output().splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    event = msgspec.json.decode(line)
                    if isinstance(event, dict) and event.get("event") == "reading":
                        return True
            await asyncio.sleep(_TICK_S)
        return False

    async def _feed(self, watcher: Watcher, feeder: Feeder) -> None:
        options = self._options
        if options.source is None:
            how = "once" if options.exit_when_done else "in a loop; Ctrl-C ends it"
            self._screen.say("feed", f"posts written for the demo, {how}")
        else:
            self._screen.say("feed", options.source.path)
        round_number = 1
        while True:
            try:
                async for lines in self._round():
                    while watcher.account.outstanding >= MOST_OUTSTANDING:
                        watcher.changed.clear()
                        await watcher.changed.wait()
                    await feeder.send(lines, round_number)
                    await feeder.flush()
            except SourceError as exc:
                # What was read before the damage is labelled; the error is said at the end.
                self._source_error = exc
            if options.source is not None or options.exit_when_done:
                break
            round_number += 1
        if not options.exit_when_done:
            self._screen.say("feed", "all posts are sent; Ctrl-C ends the demo")

    def _round(self) -> AsyncIterator[Sequence[Line]]:
        if self._options.source is None:
            return shipped_feed(self._options.rate)
        return file_feed(self._options.source, self._options.rate)

    async def _open_page(self) -> None:
        """Start the page once the worker has its cores; without it the demo goes on."""
        try:
            dashboard = self._processes.start_dashboard()
        except MissingExtraError as exc:
            self._screen.say("page", f"none: {exc.message}; `{exc.hint}` brings it", style="yellow")
            return
        while dashboard.alive and not await asyncio.to_thread(self._processes.page_answers):  # noqa: ASYNC110 - a port tells nothing by itself
            await asyncio.sleep(_TICK_S)
        if dashboard.alive:
            address = self._processes.page or ""
            self._screen.say("page", address)
            if self._options.browser and self._screen.is_terminal and _has_display():
                await asyncio.to_thread(webbrowser.open, address)
        while dashboard.alive:  # noqa: ASYNC110 - nor does a process
            await asyncio.sleep(_TICK_S)
        self._screen.say("page", "ended; the demo goes on without it", style="red")
        self._screen.quote(dashboard.last_lines())

    async def _show(self, watcher: Watcher) -> None:
        while True:
            self._say_news()
            self._screen.show(watcher.account, watcher.recent_s)
            await asyncio.sleep(_TICK_S * 2)

    def _say_news(self) -> None:
        if self._hook is not None:
            for word, detail, style in self._hook.news():
                self._screen.say(word, detail, style=style)

    def _result(self, watcher: Watcher) -> DemoResult:
        source = self._options.source
        return result_of(
            watcher,
            lines=source.lines if source and self._fed.is_set() else 0,
            blank=source.blank if source else 0,
            broker=BrokerUsed(
                kind="embedded" if self._processes.broker else "given",
                bootstrap=self._processes.settings.kafka.bootstrap,
            ),
            started_s=self._started_s,
            worker_restarts=self._restarts,
            interrupted=self._stop.is_set(),
            hook=None if self._hook is None else self._hook.result,
        )

    def _report(self, result: DemoResult) -> None:
        self._screen.say(
            "labelled", f"{result.labelled:,} of the {result.posts_in:,} posts that could be read"
        )


def _has_display() -> bool:
    """Whether a browser has somewhere to appear; without it a text browser takes the terminal."""
    if platform.system() == "Linux":
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
