"""`tidegate worker`: the Faust agents, posts in and labels out, until a signal."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command("worker")
def worker(
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="HOST:PORT", help="The broker.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.")] = None,
    preset: Annotated[str | None, typer.Option(help="Which models serve the tasks.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:n.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Read posts, label them, write labels and dead letters.

    Start more of them to go faster: they share the partitions. SIGTERM or Ctrl-C finishes what is
    in flight and commits; after any other end the next worker goes on where this one stopped.
    """
    from stream.settings import load_settings
    from stream.worker import run_worker

    run_worker(
        load_settings(
            {
                "kafka.bootstrap": kafka,
                "kafka.group": group,
                "models.preset": preset,
                "models.device": device,
                "log.level": log_level,
            }
        )
    )
