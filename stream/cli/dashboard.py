"""`tidegate dashboard`: the web page and the projector that feeds it."""

from __future__ import annotations

import signal
import sys
import threading
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from dashboard.people import MAY, Role
from stream.cli.options import JsonOption, KafkaOption
from stream.cli.output import print_json, print_table
from stream.errors import TidegateError
from stream.logs import set_up_logs
from stream.settings import Settings, load_settings

if TYPE_CHECKING:
    import subprocess

    from dashboard.process import Command

app = typer.Typer(
    name="dashboard",
    help="Watch posts being labelled in a web page, until Ctrl-C; who may sign in; rebuild.",
    invoke_without_command=True,
)

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="The read model: an SQLite file, or a URL of PostgreSQL; default: setting `dashboard.database`.",
        show_default=False,
    ),
]

#: A projector that ran for this long is started again when it dies; one that did not has a reason.
_RESTARTED_AFTER_S = 10.0


@app.callback()
def dashboard(
    ctx: typer.Context,
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
    database: DatabaseOption = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the page in a browser.")
    ] = False,
) -> None:
    """Watch posts being labelled in a web page, until Ctrl-C.

    Starts two processes and stops both at the end: the projector, which reads labels, decisions,
    reviews, alerts and the rest into the read model, and the page. Where other machines can reach
    the page, people have to sign in: `tidegate dashboard add-user` names them.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = load_settings(
        {
            "kafka.bootstrap": kafka,
            "dashboard.host": host,
            "dashboard.port": port,
            "dashboard.database": database,
        }
    )
    run(settings, browser=not no_browser)


def run(settings: Settings, *, browser: bool) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        ConfigError: others can reach the address and nobody can sign in, or it is taken.
        MissingExtraError: the dashboard's packages are not installed.
        BrokerError: the broker does not answer.
        ReadModelError: the read model's server does not let us in.
        TidegateError: the page or the projector ended.
    """
    from dashboard import process
    from dashboard.database import check_database
    from dashboard.sign_in import sign_in_mode
    from stream.kafka.preflight import check_broker

    listen = settings.dashboard.host
    sign_in_mode(settings.dashboard)
    process.require_extra()
    port = process.free_port(listen, settings.dashboard.port)
    check_database(settings.dashboard.database)
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


@app.command("add-user")
def add_user(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    role: Annotated[
        Role, typer.Option(help="What the user may do; each role may what the one before may.")
    ] = Role.VIEWER,
    *,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Let somebody sign in, or give a user another role and password.

    Asks for the password twice. It is kept as its scrypt hash, in a file that only you can read
    (setting `dashboard.users`).
    """
    from dashboard.sign_in import save_user

    settings = load_settings()
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    save_user(settings.dashboard.users, name, role, password)
    _say(f"{name} may sign in, with the role {role}: {MAY[role]}")


@app.command("remove-user")
def remove(name: Annotated[str, typer.Argument(help="The name to take away.")]) -> None:
    """Take a user away; who is signed in is out with the next click."""
    from dashboard.sign_in import remove_user

    remove_user(load_settings().dashboard.users, name)
    _say(f"{name} cannot sign in any more")


@app.command("users")
def users(*, json: JsonOption = False) -> None:
    """List who may sign in by name."""
    from dashboard.sign_in import installation_secret, load_users, pseudonym

    path = load_settings().dashboard.users
    secret = installation_secret(path)
    rows = [(u.name, u.role.value, pseudonym(u.name, secret)) for u in load_users(path).values()]
    if json:
        print_json([dict(zip(("name", "role", "pseudonym"), row, strict=True)) for row in rows])
    else:
        print_table([("name", "left"), ("role", "left"), ("pseudonym", "left")], rows)


@app.command("rebuild")
def rebuild(
    *, kafka: KafkaOption = None, database: DatabaseOption = None, json: JsonOption = False
) -> None:
    """Make the read model anew from the topics, and swap it in when it has caught up.

    A dashboard may go on meanwhile. What the topics do not hold any more (counts of old days, the
    audit of old decisions) is taken over from the old file.
    """
    from dashboard.rebuild import rebuild as made_anew
    from stream.cli.progress import records_progress
    from stream.kafka.preflight import check_broker

    settings = load_settings({"kafka.bootstrap": kafka, "dashboard.database": database})
    check_broker(settings.kafka)
    set_up_logs(settings.log)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with records_progress("rebuilding") as told:
        done = made_anew(settings, told, stop)
    if done is None:
        raise TidegateError("stopped: the read model is as it was")
    if json:
        print_json(
            {
                "records": done.records,
                "carried": done.carried,
                "elapsed_s": round(done.elapsed_s, 1),
            }
        )
    else:
        _say(
            f"{done.records:,} records in {done.elapsed_s:.0f} s: {settings.dashboard.database};"
            f" {done.carried:,} audit entries taken over"
        )
