"""How a command prints its result: JSON for programs, a table for people, both on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Table

Align = Literal["left", "right"]


def print_json(result: Any) -> None:
    """One JSON value on one line."""
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[tuple[str, Align]], rows: Iterable[Sequence[str]], title: str | None = None
) -> None:
    """A plain table; text wraps at the terminal's width and is never cut off in a pipe.

    Cells are shown as they are: nothing in them is taken for markup.
    """
    table = Table(box=None, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name, align in columns:
        table.add_column(name, justify=align, overflow="fold", header_style="dim")
    for row in rows:
        table.add_row(*(_visible(cell) for cell in row))
    console = Console(markup=False, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    console.print(table)


def _visible(text: str) -> str:
    """Without characters that drive the terminal: a record's key may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def count(number: int) -> str:
    """A number as people read it."""
    return f"{number:,}"


def age(seconds: float) -> str:
    """A time span in its largest whole unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return (
                f"{seconds / size:g} {unit}"
                if seconds % size == 0
                else f"{seconds / size:.1f} {unit}"
            )
    return f"{seconds:g} s"
