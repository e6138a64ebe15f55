"""The progress bars of the commands that read files and topics; nothing where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from stream.sources.files import FileSource

_EVERY_S = 0.1


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        lines = task.fields.get("lines", 0)
        rate = lines / task.elapsed if task.elapsed else 0.0
        unit = task.fields.get("unit", "lines")
        return Text(f"{lines:,} {unit}  {rate:,.0f}/s", style="progress.data.speed")


@contextmanager
def progress_of(source: FileSource, what: str) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how many lines are done.

    The bar follows the bytes of the file where its size is known, less what was only read so far,
    and does no more than move where it is not.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _lines: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=source.size or None)
        last_s = 0.0

        def done(lines: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= _EVERY_S:
                last_s = time.monotonic()
                # In a loop `lines` counts every round, the file's bytes only this one.
                share = min(1.0, lines / source.lines) if source.lines else 0.0
                progress.update(task, completed=source.bytes_read * share, lines=lines)

        yield done


@contextmanager
def records_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Gives a function that is told how many records are done, and how many are left (or None)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _left: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Records(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def told(done: int, left: int | None) -> None:
            progress.update(task, completed=done, total=None if left is None else done + left)

        yield told


@contextmanager
def share_progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Gives a function that is told how much of `total` is done, and how many records that is.

    `done(completed, records)`: `total` and `completed` in records, bytes, or whatever the caller
    has; without `records` they are what is counted.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _completed, _records=0: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total or None, unit="records")
        last_s = 0.0

        def done(completed: float, records: int | None = None) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= _EVERY_S:
                last_s = time.monotonic()
                lines = int(completed) if records is None else records
                progress.update(task, completed=completed, lines=lines)

        yield done


class _Records(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{task.completed:,.0f} records  {rate:,.0f}/s", style="progress.data.speed")
