"""Runs the roles of a worker, one process each, and ends them together.

The invariant: none of them outlives this process, kill -9 included (each watches a pipe from us),
and a failure of one ends all with its error. Two roles in one process would share an interpreter,
and labelling needs all of one. What units a role has (hooks: targets) may change meanwhile.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, Final

import msgspec

from stream.errors import BrokerError, ConfigError, PolicyError, StallError, TidegateError
from stream.logs import get_logger, set_up_logs
from stream.readiness import output_limits
from stream.roles import Duty, UnitsWatch, role_named
from stream.settings import Settings

log = get_logger(__name__)

_TICK_S: Final = 0.1
#: Over `worker.stop_timeout_s`, after which a role ends itself (its watchdog's grace is 10 s).
_STOP_GRACE_S: Final = 14.0
#: Before new units are told of again, when the broker did not answer.
_WELCOME_AGAIN_S: Final = 5.0


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The error that ended a role, as its process tells us on standard output."""

    message: str
    where: str | None = None
    hint: str | None = None
    usage: bool = False
    #: The mistakes of a file of rules, as a compiler shows them.
    rendered: str = ""

    @classmethod
    def of(cls, error: TidegateError) -> Failure:
        """What is told of an error."""
        return cls(
            message=error.message,
            where=error.where,
            hint=error.hint,
            usage=isinstance(error, ConfigError),
            rendered=getattr(error, "rendered", ""),
        )

    def error(self) -> TidegateError:
        """The error as one to raise; `ConfigError` keeps its exit code."""
        if self.rendered:
            return PolicyError(self.message, rendered=self.rendered, hint=self.hint)
        kind = ConfigError if self.usage else TidegateError
        return kind(self.message, where=self.where, hint=self.hint)


class _Child:
    """One role's process, or one unit's; `made_of` is what its unit was when it was started."""

    def __init__(self, duty: Duty, settings: bytes, made_of: object = None) -> None:
        self.duty = duty
        self.made_of = made_of
        #: It was asked to end, and ends by then or is killed.
        self.leaves_by: float | None = None
        # -P: a folder named `stream` in the user's working directory is not ours.
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "stream.duty", duty.role, duty.unit],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours; we pass it on
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: seen at the first look
            self.process.stdin.write(settings + b"\n")
            self.process.stdin.flush()

    def failure(self) -> TidegateError | None:
        """Why it ended; None after an orderly end."""
        code = self.process.poll()
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        for line in reversed(said.splitlines()):
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(line, type=Failure).error()
        if code == 0:
            return None
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        return TidegateError(
            f"the process of the role `{self.duty.name}` {how}",
            hint="nothing undelivered was committed: start the worker again and it goes on there",
        )

    def close(self) -> None:
        """Let go of its pipes; it must have ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


def run_duties(
    settings: Settings, duties: Sequence[Duty], idle: Mapping[str, str] | None = None
) -> None:
    """Do these duties until a signal, each in a process of its own.

    Args:
        settings: all of them.
        duties: what is done.
        idle: by name, why a role does nothing; logged.

    Raises:
        TidegateError: the one that ended a role, and with it all.
    """
    set_up_logs(settings.log)
    for role, why in (idle or {}).items():
        log.info("role left out", role=role, reason=why)
    watches = {}
    for name in dict.fromkeys([*(duty.role for duty in duties), *(idle or {})]):
        role_ = role_named(name)
        output_limits(settings.kafka, role_.reads, role_.writes)
        if role_.watch is not None:
            watches[name] = role_.watch(settings)
    crew = Crew(settings, watches)
    with crew.signals():
        for name, watch in watches.items():
            crew.welcome(name, watch.loaded)
        _run([duty for duty in duties if duty.role not in watches], crew)


class Crew:
    """The children, and whether a signal asked for the end.

    Args:
        settings: all of them.
        watches: by role, the units of those whose units change.
    """

    def __init__(self, settings: Settings, watches: Mapping[str, UnitsWatch]) -> None:
        self.children: list[_Child] = []
        self.stopping = False
        self.patience_s = settings.worker.stop_timeout_s + _STOP_GRACE_S
        self._all_settings = settings
        self._settings = _as_json(settings)
        self._watches = watches
        self._welcomed: dict[Duty, object] = {}
        self._told: dict[str, str | None] = {}
        self._welcome_at = 0.0

    @contextlib.contextmanager
    def signals(self) -> Any:
        """While it is entered, signals ask for the end."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        log.info("stopping", signal=signal.Signals(number).name)
        self.stopping = True

    def start(self, duty: Duty, made_of: object = None) -> None:
        """Start a process for a duty."""
        self.children.append(_Child(duty, self._settings, made_of))

    def welcome(self, role: str, units: Mapping[str, object]) -> None:
        """Tell a role of units that are new or another, by name what each is made of."""
        new = {u: of for u, of in units.items() if self._welcomed.get(Duty(role, u)) != of}
        if new:
            role_named(role).welcome(self._all_settings, new)
            self._welcomed |= {Duty(role, unit): of for unit, of in new.items()}

    def watch(self) -> TidegateError | None:
        """Wait for a signal (None), or for the first of them to end: why it did."""
        while not self.stopping:
            for child in list(self.children):
                if child.process.poll() is None:
                    if child.leaves_by is not None and time.monotonic() > child.leaves_by:
                        child.process.kill()
                elif (error := self._ended(child)) is not None:
                    log.error("a role ended", role=child.duty.name)
                    return error
            for role, watch in self._watches.items():
                self._look(role, watch)
                self.adapt(role, watch)
            time.sleep(_TICK_S)
        return None

    def _ended(self, child: _Child) -> TidegateError | None:
        """Why that ends all; None where the child was to end, or is to be started anew."""
        failure = child.failure()
        watch = self._watches.get(child.duty.role)
        if child.leaves_by is not None:
            if failure is not None:
                log.error("ended badly", role=child.duty.name, reason=failure.message)
        elif (
            watch is None or not isinstance(failure, ConfigError) or self._is_current(child, watch)
        ):
            return failure or TidegateError(
                f"the process of the role `{child.duty.name}` ended by itself",
                hint="start the worker again: it goes on where it stopped",
            )
        self.children.remove(child)
        child.close()
        return None

    @staticmethod
    def _is_current(child: _Child, watch: UnitsWatch) -> bool:
        """Whether it read what we read: the file may have changed in between."""
        watch.poll(now=True)
        return watch.error is None and watch.loaded.get(child.duty.unit) == child.made_of

    def _look(self, role: str, watch: UnitsWatch) -> None:
        before = watch.loaded
        if watch.poll():
            log.info(
                "reloaded",
                role=role,
                new=sorted(watch.loaded.keys() - before.keys()),
                gone=sorted(before.keys() - watch.loaded.keys()),
                changed=sorted(
                    name
                    for name in watch.loaded.keys() & before.keys()
                    if watch.loaded[name] != before[name]
                ),
            )
        told = None if watch.error is None else str(watch.error)
        if told is not None and told != self._told.get(role):
            log.error("not reloaded", role=role, reason=told)
        self._told[role] = told

    def adapt(self, role: str, watch: UnitsWatch) -> None:
        """End what is no more or another, start what is new."""
        there = {child.duty.unit: child for child in self.children if child.duty.role == role}
        for unit, child in there.items():
            if child.leaves_by is None and watch.loaded.get(unit) != child.made_of:
                child.leaves_by = time.monotonic() + self.patience_s
                if child.process.poll() is None:
                    child.process.terminate()
        if watch.error is None:
            self._add(role, {u: of for u, of in watch.loaded.items() if u not in there})

    def _add(self, role: str, new: Mapping[str, object]) -> None:
        """Start units; while the broker does not answer they wait, and the others go on."""
        if not new or time.monotonic() < self._welcome_at:
            return
        try:
            self.welcome(role, new)
        except BrokerError as exc:
            self._welcome_at = time.monotonic() + _WELCOME_AGAIN_S
            log.warning("not started", role=role, units=sorted(new), reason=exc.message)
            return
        for unit, of in new.items():
            self.start(Duty(role, unit), of)

    def ask_to_stop(self) -> None:
        """Ask every process that runs."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()

    def wait(self, timeout_s: float) -> list[_Child]:
        """Those that have not ended in this time."""
        deadline = time.monotonic() + timeout_s
        while late := [child for child in self.children if child.process.poll() is None]:
            if time.monotonic() > deadline:
                return late
            time.sleep(_TICK_S)
        return []


def _run(duties: Sequence[Duty], crew: Crew) -> None:
    try:
        for duty in duties:
            if not crew.stopping:
                crew.start(duty)
        error = crew.watch()
        crew.ask_to_stop()
        late = crew.wait(crew.patience_s)
        if error is None:
            error = next((e for c in crew.children if c not in late if (e := c.failure())), None)
        if error is None and late:
            names = ", ".join(f"`{child.duty.name}`" for child in late)
            error = StallError(f"did not stop in time: {names}")
        if error is not None:
            raise error
        log.info("stopped")
    finally:
        for child in crew.children:
            if child.process.poll() is None:
                child.process.kill()
            child.process.wait()
            child.close()


def _as_json(settings: Settings) -> bytes:
    """The settings as the children read them: over a pipe, because there are secrets in them."""
    password = settings.kafka.password
    data = settings.model_dump(mode="json")
    if password is not None:
        data["kafka"]["password"] = password.get_secret_value()
    return msgspec.json.encode(data)
