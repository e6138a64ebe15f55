"""The progress of a command in several steps: a bar for each on a terminal, else a line for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def steps_progress() -> Iterator[Callable[[str, float, str], None]]:
    """Gives a function for (step, share done, remark): a bar on a terminal, else a line a step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        seen: set[tuple[str, str]] = set()

        def line(step: str, _share: float, remark: str) -> None:
            # Only the parts of an evaluation are worth a line of their own.
            part = remark if step == "evaluate" else ""
            if (step, part) not in seen:
                seen.add((step, part))
                typer.echo(f"{step} {part}".rstrip(), err=True)

        yield line
        return
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        TextColumn("{task.fields[remark]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}
        last_s = 0.0

        def bar(step: str, share: float, remark: str) -> None:
            nonlocal last_s
            now = time.monotonic()
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=1.0, remark=remark)
            elif now - last_s < 0.1 and share < 1.0:
                return
            last_s = now
            progress.update(tasks[step], completed=share, remark=remark)

        yield bar
