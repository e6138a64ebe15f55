"""`tidegate demo`: broker, worker, dashboard and a feed on this machine, in one command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import FormatOption, JsonOption, TextOption, chosen_format
from stream.cli.output import print_json
from stream.sources.files import FileSource

if TYPE_CHECKING:
    from stream.demo.result import DemoResult

app = typer.Typer()


@app.command("demo")
def demo(
    *,
    posts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Feed this file (as for `tidegate replay`; `-` is standard input); default: a feed "
            "written for the demo, in a loop.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Posts a second; default: a file as fast as it is labelled, the demo's feed at its "
            "own pace.",
            show_default=False,
        ),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A Kafka broker of yours; default: an embedded one, in memory, on a free port.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of the page; default: setting `dashboard.port`, or a free one.",
            show_default=False,
        ),
    ] = None,
    exit_when_done: Annotated[
        bool, typer.Option("--exit-when-done", help="End when every post has its label.")
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the page in a browser.")
    ] = False,
    text: TextOption = False,
    form: FormatOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch real posts being labelled: everything on this machine, one command.

    Ctrl-C ends it and leaves nothing running. With --exit-when-done the exit code is 3 where a post
    has neither label nor dead letter.
    """
    from stream.demo.run import DemoOptions, run_demo
    from stream.demo.screen import Screen
    from stream.kafka.closing import silence_clients
    from stream.sources.chunks import check_readable

    silence_clients()
    if posts is not None:
        check_readable(posts)
    options = DemoOptions(
        source=None if posts is None else FileSource(posts, chosen_format(form, text=text)),
        rate=rate,
        kafka=kafka,
        port=port,
        exit_when_done=exit_when_done,
        browser=not no_browser,
    )
    with Screen() as screen:
        result = asyncio.run(run_demo(options, screen))
    if as_json:
        print_json(result)
    else:
        _print(result)
    if not exit_when_done:
        return
    if result.interrupted:
        raise typer.Exit(130)
    if not result.adds_up:
        raise typer.Exit(3)


def _print(result: DemoResult) -> None:
    typer.echo(
        f"{result.posts_in:,} posts in: {result.labelled:,} labelled, "
        f"{result.dead_lettered:,} dead letters, {result.duplicates:,} duplicates, "
        f"{result.blank:,} blank lines"
    )
    if result.latency_ms is not None:
        latency = ", ".join(f"{name} {value:,.0f} ms" for name, value in result.latency_ms.items())
        typer.echo(f"{result.posts_per_s:,.1f} posts/s; from posted to labelled: {latency}")
    if (hook := result.hook) is not None and (hook.decisions or hook.alerts_fired):
        actions = ", ".join(f"{count:,} {action}" for action, count in hook.actions.items())
        typer.echo(
            f"webhook, signatures verified: {hook.decisions:,} decisions ({actions}), "
            f"{hook.alerts_fired:,} alerts fired, {hook.alerts_resolved:,} resolved"
        )
