"""`tidegate hooks`: where decisions and alerts go, whether that works, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import heapq
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import JsonOption, KafkaOption, SinceOption, since_moment
from stream.cli.output import count, print_json, print_table
from stream.errors import ConfigError
from stream.settings import Settings, load_settings

if TYPE_CHECKING:
    from stream.hooks.log import LogFilter
    from stream.hooks.replay import Replayable, Replayed
    from stream.hooks.targets import Target
    from stream.outcomes import Delivery

app = typer.Typer(
    name="hooks",
    help="Targets of decisions and alerts: list, test, log, replay.",
    no_args_is_help=True,
)


class DeliveryState(StrEnum):
    """What became of an attempt. Part of the wire format."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    FAILED = "failed"
    DROPPED = "dropped"


class What(StrEnum):
    """What a test sends."""

    DECISION = "decision"
    ALERT = "alert"


FileOption = Annotated[
    str | None,
    typer.Option(
        "--hooks",
        metavar="FILE",
        help="File of targets; default: setting `hooks.path`, or config/hooks.yaml.",
        show_default=False,
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="Only this target; may be repeated.", show_default=False),
]
IdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id", help="Only this decision, alert or post; may be repeated.", show_default=False
    ),
]


@app.command("list")
def list_targets(
    *,
    hooks: FileOption = None,
    lag: Annotated[
        bool, typer.Option("--lag", help="Ask the broker how far behind each target is.")
    ] = False,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the targets, what each wants, and whether its secrets are there. Shows no secret."""
    from stream.hooks.looking import described, lags_of

    settings, targets = _loaded(hooks, kafka)
    lags = lags_of(settings, targets) if lag else {}
    rows = [described(name, target, lags.get(name)) for name, target in targets.items()]
    if as_json:
        print_json({"targets": rows})
        return
    columns = ["name", "type", "enabled", "to", "records", "filter", "problem"]
    if lag:
        columns.insert(6, "lag")
    print_table(
        [(name, "right" if name == "lag" else "left") for name in columns],
        [[_cell(row[name]) for name in columns] for row in rows],
    )
    if not rows:
        typer.echo(
            "no targets: config/hooks.example.yaml is a file to begin with, `hooks.path` names yours",
            err=True,
        )


@app.command("test")
def send_test(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Its name in the file.")],
    *,
    what: Annotated[
        What | None, typer.Option(help="A decision, or an alert that fires and resolves.")
    ] = None,
    hooks: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a made-up record to a target, once, and say what came back. Needs no broker."""
    from stream.hooks.looking import send_samples
    from stream.logs import set_up_logs

    settings, targets = _loaded(hooks, None)
    set_up_logs(settings.log)
    found = _named(targets, target)
    kinds = found.records
    if what is None:
        what = What.DECISION if "decisions" in kinds else What.ALERT
    rows = asyncio.run(send_samples(settings, target, found, alert=what is What.ALERT))
    delivered = all(row["outcome"] == "delivered" for row in rows)
    if as_json:
        print_json({"target": target, "delivered": delivered, "attempts": rows})
    else:
        for row in rows:
            status = f", status {row['status']}" if row["status"] is not None else ""
            error = f": {row['error']}" if row["error"] else ""
            typer.echo(
                f"{row['type']}: {row['outcome']}{status}, {row['elapsed_ms']} ms, "
                f"id {row['id']}{error}"
            )
    if not delivered:
        raise typer.Exit(1)


@app.command("log")
def show_log(
    *,
    target: TargetOption = None,
    state: Annotated[
        list[DeliveryState] | None,
        typer.Option(help="Only attempts that ended so; may be repeated.", show_default=False),
    ] = None,
    ids: IdOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")
    ] = False,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the attempts: to which target, what came of it, when the next one is.

    With --follow and --json there is one object a line.
    """
    from stream.hooks.log import read_log
    from stream.kafka.preflight import check_broker

    settings = load_settings({"kafka.bootstrap": kafka})
    wanted = _filter(target, state, ids, since)
    check_broker(settings.kafka)
    newest = heapq.nlargest(
        limit, read_log(settings.kafka, wanted), key=lambda d: (d.at, d.attempt)
    )
    if follow:
        for delivery in reversed(newest):
            _print_line(delivery, as_json)
        with contextlib.suppress(KeyboardInterrupt):
            _follow(settings, wanted, {d.delivery_id for d in newest}, as_json)
        return
    if as_json:
        print_json({"deliveries": [_summary(delivery) for delivery in newest]})
        return
    names = ("at", "target", "state", "attempt", "status", "record", "error", "next")
    print_table(
        [(name, "right" if name in ("attempt", "status") else "left") for name in names],
        [_row(delivery) for delivery in newest],
    )
    if not newest:
        typer.echo("no deliveries", err=True)


@app.command("replay")
def replay(
    target: Annotated[
        str, typer.Option("--target", help="Its name in the file.", show_default=False)
    ],
    *,
    ids: IdOption = None,
    since: SinceOption = None,
    delivered: Annotated[
        bool,
        typer.Option("--delivered", help="Also what was delivered: the receiver lost it."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    hooks: FileOption = None,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send what was given up once more, with the ids it had, at the target's own rate.

    Each record is tried once; what fails again stays in the log and can be replayed again. A
    running worker is not disturbed, and does not see the replay.
    """
    from stream.hooks.replay import replayable
    from stream.kafka.preflight import check_broker
    from stream.logs import set_up_logs

    settings, targets = _loaded(hooks, kafka)
    set_up_logs(settings.log)
    found = _named(targets, target)
    wanted = _filter([target], None, ids, since)
    check_broker(settings.kafka)
    events, gone = replayable(settings.kafka, target, wanted, delivered=delivered)
    if gone:
        typer.echo(f"{count(gone)} cannot be replayed: their topic has expired them", err=True)
    if dry_run:
        if as_json:
            print_json({"target": target, "would_send": [each.event.record_id for each in events]})
        else:
            typer.echo(f"{count(len(events))} would be sent")
        return
    if events and not yes and typer.get_text_stream("stdin").isatty():
        typer.confirm(f"Send {count(len(events))} records to `{target}`?", abort=True, err=True)
    done = asyncio.run(_replayed(settings, target, found, events))
    if as_json:
        print_json({"target": target, "gone": gone, **dataclasses.asdict(done)})
    else:
        typer.echo(f"{count(done.delivered)} delivered, {count(done.failed)} failed")
        if done.left:
            typer.echo(f"{count(done.left)} left: the target is failing", err=True)
    if done.failed or done.left:
        raise typer.Exit(1)


@app.command("new-key")
def new_key() -> None:
    """Print a new signing key for a webhook; sender and receiver keep it secret."""
    from stream.hooks.receiver import new_key as made

    typer.echo(made())


# -- what the commands need


def _loaded(hooks: str | None, kafka: str | None) -> tuple[Settings, dict[str, Target]]:
    from stream.hooks.load import load_targets

    settings = load_settings({"hooks.path": hooks, "kafka.bootstrap": kafka})
    return settings, load_targets(settings.hooks)


def _named(targets: dict[str, Target], name: str) -> Target:
    from stream.policy.diagnostics import suggestion

    if name not in targets:
        hint = suggestion(name, targets, "targets") if targets else None
        raise ConfigError(
            f"there is no target `{name}`", hint=hint or "`tidegate hooks list` shows them"
        )
    return targets[name]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_cell(inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


async def _replayed(
    settings: Settings, name: str, target: Target, events: list[Replayable]
) -> Replayed:
    from rich.console import Console
    from rich.progress import Progress

    from stream.hooks.replay import replay_events

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"to {name}", total=len(events))
        return await replay_events(
            settings, name, target, events, told=lambda: progress.advance(task)
        )


def _filter(
    targets: list[str] | None,
    states: list[DeliveryState] | None,
    ids: list[str] | None,
    since: str | None,
) -> LogFilter:
    from stream.hooks.log import LogFilter

    return LogFilter(
        targets=frozenset(targets or []),
        states=frozenset(str(state) for state in states or []),
        ids=frozenset(ids or []),
        since=since_moment(since),
    )


def _summary(delivery: Delivery) -> dict[str, Any]:
    """The delivery without its original: what a list needs."""
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(delivery)
    fields.pop("original", None)
    return fields


def _row(delivery: Delivery) -> list[str]:
    return [
        delivery.at,
        delivery.target,
        delivery.state,
        str(delivery.attempt),
        _cell(delivery.status),
        delivery.record_id,
        delivery.error or "",
        delivery.next_at or "",
    ]


def _print_line(delivery: Delivery, as_json: bool) -> None:
    if as_json:
        print_json(_summary(delivery))
        return
    line = "  ".join(cell for cell in _row(delivery) if cell)
    typer.echo("".join(c if c.isprintable() else "�" for c in line))


def _follow(settings: Settings, wanted: LogFilter, seen: set[str], as_json: bool) -> None:
    from stream.hooks.follow import new_deliveries

    for delivery in new_deliveries(settings.kafka, wanted):
        if delivery.delivery_id not in seen:
            _print_line(delivery, as_json)
