"""`tidegate dashboard`: the web page and the projector that feeds it."""

from __future__ import annotations

import signal
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import KafkaOption
from stream.errors import ConfigError, TidegateError
from stream.settings import Settings, load_settings

if TYPE_CHECKING:
    import subprocess

    from dashboard.process import Command

app = typer.Typer()

#: A projector that ran for this long is started again when it dies; one that did not has a reason.
_RESTARTED_AFTER_S = 10.0


@app.command("dashboard")
def dashboard(
    *,
    kafka: KafkaOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; default: setting `dashboard.host`.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on, 0 for a free one; default: setting `dashboard.port`.",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="SQLite file of the read model; default: setting `dashboard.database`.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the page in a browser.")
    ] = False,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Listen where other machines can reach it. There is no sign-in yet: everybody who "
            "reaches the page reads every post.",
        ),
    ] = False,
) -> None:
    """Watch posts being labelled in a web page, until Ctrl-C.

    Starts two processes and stops both at the end: the projector, which reads `labels` and
    `dead-letters` into the read model, and the page.
    """
    settings = load_settings(
        {
            "kafka.bootstrap": kafka,
            "dashboard.host": host,
            "dashboard.port": port,
            "dashboard.database": database,
        }
    )
    run(settings, browser=not no_browser, allow_remote=allow_remote)


def run(settings: Settings, *, browser: bool, allow_remote: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigError: the address is not on this machine and nobody allowed that, or is taken.
        MissingExtraError: the dashboard's packages are not installed.
        BrokerError: the broker does not answer.
        TidegateError: the page or the projector ended.
    """
    from dashboard import process
    from stream.kafka.preflight import check_broker

    listen = settings.dashboard.host
    if not process.is_loopback(listen) and not allow_remote:
        raise ConfigError(
            f"`{listen}` can be reached from other machines, and the dashboard has no sign-in yet",
            hint="listen on 127.0.0.1 and use an SSH tunnel, or give --allow-remote where everybody "
            "who reaches it may read every post",
        )
    process.require_extra()
    port = process.free_port(listen, settings.dashboard.port)
    check_broker(settings.kafka)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    projector = process.projector_command(settings)
    with process.running(projector, process.dashboard_command(settings, port, listen)) as children:
        page = children[1]
        process.wait_until_ready(page, listen, port, stop)
        if stop.is_set():
            return
        url = f"http://{f'[{listen}]' if ':' in listen else listen}:{port}"
        if not process.is_loopback(listen):
            _say("warning: no sign-in: everybody who reaches this page reads every post")
        _say(f"dashboard: {url}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(url)
        _watch(children, projector, stop)


def _watch(
    children: list[subprocess.Popen[bytes]], projector: Command, stop: threading.Event
) -> None:
    """Wait; a projector that dies in the middle of its work goes on where its file says."""
    since = time.monotonic()
    while not stop.wait(0.5):
        if (code := children[1].poll()) is not None and not stop.is_set():
            raise TidegateError(f"the dashboard's page ended, with code {code}")
        if (code := children[0].poll()) is not None and not stop.is_set():
            if time.monotonic() - since < _RESTARTED_AFTER_S:
                raise TidegateError(
                    f"the projector ended at once, with code {code}", hint="the line above says why"
                )
            _say(f"warning: the projector ended, with code {code}; it is started again")
            children[0] = projector.start()
            since = time.monotonic()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
