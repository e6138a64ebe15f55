"""Mistakes in rule files, shown as a compiler shows them: place, fact, line, caret, hint.

House style: the fact is lower case, starts with what is wrong and quotes names in backticks; the
hint, where there is one, is the next thing to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stream.errors import PolicyError

#: More of a line than this is not shown; the window moves with the caret.
_SHOWN_CHARS = 110


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file's name as the user gave it, and its text."""

    name: str
    text: str
    lines: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        # As YAML counts: its lines end at \n or \r\n, not at everything `splitlines` takes.
        lines = [line.removesuffix("\r") for line in self.text.split("\n")]
        object.__setattr__(self, "lines", lines)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One mistake; `line` and `column` count from 1, `width` in characters."""

    file: str
    line: int
    column: int
    width: int
    message: str
    source: str = ""
    hint: str | None = None

    def render(self) -> str:
        """Place and fact, the line with a caret beneath, the hint."""
        number = str(self.line)
        gutter = " " * len(number)
        shown, column = self._window()
        width = max(1, min(self.width, len(shown) - column + 1))
        # A tab in front of the caret keeps its width on every terminal.
        pad = "".join("\t" if c == "\t" else " " * _cells(c) for c in shown[: column - 1])
        marked = shown[column - 1 : column - 1 + width]
        carets = "^" * max(1, sum(_cells(c) for c in marked))
        rows = [f"{self.file}:{self.line}:{self.column}: {self.message}"]
        if self.source:
            rows += [f"  {number} | {shown}", f"  {gutter} | {pad}{carets}"]
        if self.hint is not None:
            rows.append(f"  {gutter} hint: {self.hint}")
        return "\n".join(rows)

    def _window(self) -> tuple[str, int]:
        source = "".join(c if c.isprintable() or c == "\t" else "�" for c in self.source)
        if len(source) <= _SHOWN_CHARS:
            return source, self.column
        begin = max(0, min(self.column - 1 - _SHOWN_CHARS // 2, len(source) - _SHOWN_CHARS))
        end = begin + _SHOWN_CHARS
        shown = ("…" if begin else "") + source[begin:end] + ("…" if end < len(source) else "")
        return shown, self.column - begin + (1 if begin else 0)


class Diagnostics:
    """Collects mistakes; `raise_if_any` ends a load that found one."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []

    def add(
        self,
        file: SourceFile,
        offset: int,
        message: str,
        *,
        width: int = 1,
        hint: str | None = None,
    ) -> None:
        """A mistake at a character of a file."""
        offset = min(max(offset, 0), len(file.text))
        line, column = file.place(offset)
        source = file.lines[line - 1] if line <= len(file.lines) else ""
        self.found.append(Diagnostic(file.name, line, column, width, message, source, hint))

    def raise_if_any(self) -> None:
        """Raise the `PolicyError` that carries every mistake found so far."""
        if not self.found:
            return
        found = sorted(dict.fromkeys(self.found), key=lambda d: (d.file, d.line, d.column))
        files = dict.fromkeys(d.file for d in found)
        number = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise PolicyError(
            f"{number} in {', '.join(f'`{name}`' for name in files)}",
            diagnostics=found,
            rendered="\n\n".join(d.render() for d in found),
        )


def suggestion(name: str, known: Iterable[str], what: str = "") -> str | None:
    """`did you mean ...?`, or the known names where there are few, or None."""
    names = list(known)
    folded = {each.casefold().replace("-", "_"): each for each in names}
    close = difflib.get_close_matches(name.casefold().replace("-", "_"), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{folded[close[0]]}`?"
    if names and len(names) <= 12:
        return f"{what or 'known'}: {', '.join(f'`{each}`' for each in names)}"
    return None


def _cells(char: str) -> int:
    """Columns of a terminal, near enough: wide East Asian characters and emoji take two."""
    from unicodedata import combining, east_asian_width

    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1
