"""`tidegate doctor`: what is there, what is missing, what is broken, each with the fix.

Exit code 1 only where something that the main job needs is broken; what is optional and not
there is no failure.
"""

from __future__ import annotations

import typer
from rich.console import Console
from rich.text import Text

from stream.cli.options import JsonOption, KafkaOption
from stream.cli.output import print_json
from stream.findings import Finding, State

app = typer.Typer()

_STYLES = {State.OK: "green", State.MISSING: "dim", State.BROKEN: "bold red"}


@app.command("doctor")
def doctor(*, kafka: KafkaOption = None, as_json: JsonOption = False) -> None:
    """Say what is there and what is missing, each with the fix."""
    from stream.diagnosis import diagnose

    findings = []
    console = Console(highlight=False, soft_wrap=True)
    for finding in diagnose({"kafka.bootstrap": kafka}):
        findings.append(finding)
        if not as_json:
            _print(console, finding)
    fatal = [finding for finding in findings if finding.fatal]
    if as_json:
        print_json({"ok": not fatal, "findings": findings})
    elif fatal:
        names = ", ".join(finding.name for finding in fatal)
        console.print(Text(f"\nnot ready: {names}", style="bold red"))
    else:
        console.print(Text("\nready", style="bold green"))
    if fatal:
        raise typer.Exit(1)


def _print(console: Console, finding: Finding) -> None:
    line = Text(f"{finding.state:8}", style=_STYLES[finding.state])
    line.append(f"{finding.name}: ", style="not bold default")
    line.append(finding.detail, style="not bold default")
    if finding.fix is not None:
        line.append(f"\n        fix: {finding.fix}", style="not bold dim")
    console.print(line)
