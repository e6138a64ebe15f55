"""Chunks of bytes to lines of bounded length, with their numbers.

The invariant: no line longer than `MAX_LINE_BYTES` is ever held. A longer one is handed on as its
beginning, marked `cut`, as soon as the bound is passed, and the rest of it is skipped: a line that
never ends is one bad line, not the end of the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

MAX_LINE_BYTES: Final = 8 * 1024 * 1024


class RawLine(NamedTuple):
    """A line without its end; `number` counts from 1. `cut`: there was more of it."""

    number: int
    value: bytes
    cut: bool = False


def split_lines(
    chunks: Iterable[bytes], max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[list[RawLine]]:
    """The lines of the chunks, in lists of those that came together.

    Ends are LF or CRLF; a last line without one counts. Blank lines are there: they have numbers.
    """
    number = 0
    pending: list[bytes] = []  # the beginning of a line whose end has not come, in pieces
    pending_bytes = 0
    skipping = False
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        out: list[RawLine] = []
        if len(pieces) > 1:
            if skipping:
                skipping = False
            else:
                number += 1
                pending.append(pieces[0])
                out.append(_line(number, b"".join(pending), max_line_bytes))
                pending.clear()
            for value in pieces[1:-1]:
                number += 1
                out.append(_line(number, value, max_line_bytes))
            pending_bytes = 0
        if not skipping and pieces[-1]:
            pending.append(pieces[-1])
            pending_bytes += len(pieces[-1])
            if pending_bytes > max_line_bytes:
                number += 1
                out.append(_line(number, b"".join(pending), max_line_bytes))
                pending.clear()
                skipping = True
        if out:
            yield out
    if pending:
        yield [_line(number + 1, b"".join(pending), max_line_bytes)]


def _line(number: int, value: bytes, max_line_bytes: int) -> RawLine:
    if value.endswith(b"\r"):
        value = value[:-1]
    if len(value) > max_line_bytes:
        return RawLine(number, value[:max_line_bytes], cut=True)
    return RawLine(number, value)
