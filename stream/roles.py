"""The roles a worker plays: what each reads and writes, and how one is added.

The invariant: every role is a Faust app with a consumer group of its own, so that a slow role
holds up no other, and every role goes on after a kill where its own commits stopped.

To add a role, write `stream/agents/NAME.py` with a constant `ROLE = Role(...)` and add the name to
`NAMES`. What there is to know:

* `attach(app)` adds the agent. A role that turns records into records gives `add_flow_agent` (in
  `stream.agents.flowing`) a function that makes an object with `run(spans) -> Outcome`: batching,
  back-pressure, delivery and commits are the flow's. `ordered=True` calls `run` from one thread, in
  order: for a pipeline with state. `run` is in a thread and may block.
* A role with an agent of its own iterates over `app.inputs`: with `batched=True` (the default) an
  event's value is a list of `Span`s. `app.ledger.take(span)` before work (False: the partition was
  taken away, leave it), `app.ledger.confirm([span])` when everything made of it is delivered:
  offsets are committed from the ledger alone, in order, and back-pressure counts what is out
  (`worker.batch_posts` x (`worker.in_flight_batches` + 4) records). `app.publisher()` delivers. With
  `batched=False` it is Faust's own stream, an event per record, and Faust's acknowledgement.
* A record goes to the partition number of what it was made of, where the topic is `partitioned`.
* A failure of the infrastructure is raised: the process ends with code 1 and is started again.
  Nothing is retried in the agent for longer than `worker.stall_timeout_s`, or else `app.progress`
  (a number or a tuple that changes while work is being done) tells the watchdog that it lives;
  `app.idle_with_work = True` says that records may lie there for hours (a target that is down).
* `prepare(settings)` runs before the app exists and says what is wrong with the configuration by
  raising; what it returns is `app.prepared`, and `release(prepared)` ends it.
* `units(settings)`: one app and process per unit (hooks: per target), with a group of its own; an
  empty list is a role with nothing to do, and `idle` says why. With `watch` the units may change
  while the worker runs: the supervisor starts, stops and restarts their processes.
* Faust tables: their changelog topic must be created (`topic_allow_declare` is off), and a
  table's `on_recover` comes before the first event.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from stream.errors import ConfigError, TidegateError
from stream.settings import Settings
from stream.topics import Topic

if TYPE_CHECKING:
    from stream.app import TidegateApp

#: In the order in which posts meet them.
NAMES: Final = ("label", "decide", "aggregate", "alert", "hooks")


def _nothing(_: Settings) -> None:
    return None


def _keep(_: Any) -> None:
    return None


def _welcomed(_: Settings, __: Any) -> None:
    return None


def _one(_: Settings) -> Sequence[str]:
    return ("",)


class UnitsWatch(Protocol):
    """What the units of a role are; `stream.hooks.watch.TargetsWatch` is one."""

    @property
    def loaded(self) -> Mapping[str, object]:
        """By unit what it is made of: it is started anew when that is another."""
        ...

    @property
    def error(self) -> TidegateError | None:
        """Why a change is not in force."""
        ...

    def poll(self, *, now: bool = False) -> bool:
        """Look at the files, when that is due or `now`: is something another now?"""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role. The module's docstring says what its author needs to know.

    Args:
        name: as in `--role`.
        reads: its input topics; the partition numbers of all of them come to the same process.
        writes: its output topics; with `reads` what must be there before it starts.
        attach: adds the agent to the app.
        prepare: what is loaded before the app exists; raises what is wrong with it.
        units: one app for each; a role without units has only the one named "".
        idle: why there are no units.
        watch: the units as they are from now on, and what each is made of.
        welcome: told of units before any role starts, and of those that come later before they do;
            by name, what `watch` has of each.
        release: ends what `prepare` began, when the app is done.
        batched: its inputs come in spans of many records.
        changelogs: those of `writes` that are changelogs of its tables.
        most_records: records handed out and not confirmed, at most; default: by `worker`.
        faust_settings: settings of the Faust app beside those every role has.
    """

    name: str
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    attach: Callable[[TidegateApp], None]
    prepare: Callable[[Settings], Any] = _nothing
    units: Callable[[Settings], Sequence[str]] = _one
    idle: str = "nothing is configured for it"
    watch: Callable[[Settings], UnitsWatch] | None = None
    welcome: Callable[[Settings, Any], None] = _welcomed
    release: Callable[[Any], None] = _keep
    batched: bool = True
    changelogs: tuple[Topic, ...] = ()
    most_records: Callable[[Settings], int] | None = None
    faust_settings: Callable[[Settings], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Duty:
    """A role, or one unit of it: what one process does."""

    role: str
    unit: str = ""

    @property
    def name(self) -> str:
        """How it is called in logs: `decide`, `hooks/slack`."""
        return f"{self.role}/{self.unit}" if self.unit else self.role


def group_of(settings: Settings, duty: Duty) -> str:
    """The consumer group of a duty; labelling keeps the plain one."""
    group = settings.kafka.group
    if duty.role == "label":
        return group
    name = {"hooks": "hook"}.get(duty.role, duty.role)
    return f"{group}-{name}-{duty.unit}" if duty.unit else f"{group}-{name}"


def available() -> tuple[str, ...]:
    """Names of the roles of this installation."""
    return tuple(n for n in NAMES if importlib.util.find_spec(f"stream.agents.{n}") is not None)


def role_named(name: str) -> Role:
    """The role; its module is imported now and not before.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in available():
        raise ConfigError(
            f"there is no role `{name}`", hint=f"one of {', '.join(available())}, or none for all"
        )
    role: Role = importlib.import_module(f"stream.agents.{name}").ROLE
    return role


def duties_of(settings: Settings, roles: Sequence[str] = ()) -> tuple[list[Duty], dict[str, str]]:
    """What a worker with these roles (none: all of them) does, and by name why a role does nothing.

    Raises:
        ConfigError: a role that there is not, or one whose configuration is wrong.
    """
    duties, idle = [], {}
    for name in dict.fromkeys(roles or available()):
        role = role_named(name)
        units = role.units(settings)
        duties += [Duty(name, unit) for unit in units]
        if not units:
            idle[name] = role.idle
    return duties, idle
