"""`tidegate config`: every setting, its value, and where the value came from; secrets are masked."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.cli.options import JsonOption, KafkaOption
from stream.cli.output import print_json, print_table
from stream.settings import CONFIG_VARIABLE, SettingInForce, settings_in_force

app = typer.Typer()


@app.command("config")
def config(
    *,
    kafka: KafkaOption = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only what differs from the default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting, its value and where the value came from."""
    rows = settings_in_force({"kafka.bootstrap": kafka})
    if changed:
        rows = [row for row in rows if row.origin != "default"]
    if as_json:
        print_json({"settings": rows})
        return
    print_table(
        [("setting", "left"), ("value", "left"), ("from", "left"), ("meaning", "left")],
        [(row.name, shown(row), row.origin, row.description) for row in rows],
    )
    typer.echo(
        "\nA flag wins over a variable (TIDEGATE_KAFKA__BOOTSTRAP=host:port), a variable over the file that "
        f"{CONFIG_VARIABLE} names."
    )


def shown(row: SettingInForce) -> str:
    """The value as it would be written in a configuration file; `-` where there is none."""
    if row.value is None:
        return "-"
    if isinstance(row.value, bool):
        return str(row.value).lower()
    return str(row.value) or '""'
