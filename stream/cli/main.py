"""`tidegate`: wires the commands up; each module of this package holds one command or one group.

Exit codes: 0 ok, 1 failure, 2 usage, 3 a threshold missed or an account that does not add up.
Command modules import what is heavy (Faust, onnxruntime, Streamlit) inside their functions, so
that `tidegate --help` answers at once and a missing extra is named only by who needs it.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from models.packages import version_of
from stream.errors import ConfigError, PolicyError, TidegateError

#: In the order of `tidegate --help`. Each module has an `app`; one whose `app.info.name` is set
#: is a group (`tidegate topics list`), the others are single commands.
MODULES = (
    "demo",
    "replay",
    "label",
    "score",
    "policy",
    "worker",
    "dashboard",
    "audit",
    "topics",
    "config",
    "reviews",
    "dead_letters",
    "alerts",
    "hooks",
    "models",
    "bench",
    "doctor",
    "health",
)

app = typer.Typer(
    name="tidegate",
    help="Real-time monitor and moderator of social-media posts.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"tidegate {version_of('tidegate') or 'not installed'}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options before the command."""


for _name in MODULES:
    app.add_typer(importlib.import_module(f"stream.cli.{_name}").app)


def print_error(error: TidegateError) -> None:
    """The error as a user reads it, on standard error: where, what, hint."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if isinstance(error, PolicyError) and error.rendered:
        console.print(Text(error.rendered), end="\n\n")
    text = Text("error: ", style="bold red")
    text.append(
        error.message if error.where is None else f"{error.where}: {error.message}",
        style="not bold default",
    )
    if error.hint is not None:
        text.append("\n hint: ", style="bold")
        text.append(error.hint, style="not bold default")
    console.print(text)


def main() -> None:
    """The console script: commands raise `TidegateError`, this turns it into words and a code."""
    try:
        app()
    except ConfigError as error:
        print_error(error)
        sys.exit(2)
    except TidegateError as error:
        print_error(error)
        sys.exit(1)
    except BrokenPipeError:
        # `tidegate label ... | head`: the reader has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
