"""`tidegate worker`: the Faust agents, from posts to labels, decisions and alerts, until a signal."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command("worker")
def worker(
    *,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The broker.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            help="label, decide, aggregate, alert or hooks; again for several. Default: all of them.",
            show_default=False,
        ),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.")] = None,
    preset: Annotated[str | None, typer.Option(help="Which models serve the tasks.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:n.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Label posts, decide about them, count them, raise alerts and deliver both.

    Every role is a consumer group and a process of its own: one that is slow holds up no other, and
    the failure of one ends all, with code 1. Start more workers to go faster: they share the
    partitions. SIGTERM or Ctrl-C finishes what is in flight and commits; after any other end the
    next worker goes on where this one stopped.
    """
    from stream.roles import duties_of, role_named
    from stream.settings import load_settings

    settings = load_settings(
        {
            "kafka.bootstrap": kafka,
            "kafka.group": group,
            "models.preset": preset,
            "models.device": device,
            "log.level": log_level,
        }
    )
    duties, idle = duties_of(settings, role or ())
    if len(duties) == 1 and not idle and role_named(duties[0].role).watch is None:
        from stream.worker import run_worker

        run_worker(settings, duty=duties[0])
        return
    from stream.supervisor import run_duties

    run_duties(settings, duties, idle)
