"""Rows of CSV and TSV: lines to cells, cells to posts.

The invariant: a broken row costs only itself. A quote that is opened and never closed does not
swallow the rest of the file: its line is a bad row and reading goes on with the next line.

CSV is RFC 4180 (quoted cells may hold delimiters, doubled quotes and line ends). TSV comes in two
habits, with quotes as in CSV and without any: a row is read with quotes where that gives as many
cells as the header has, else literally.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from stream.errors import PostError, SourceError
from stream.post_decoding import post_from_object
from stream.records import DeadLetterReason, Post
from stream.sources.lines import MAX_LINE_BYTES, RawLine

#: A row may go on over this many lines and bytes; a quote still open then was never closed.
MAX_ROW_LINES: Final = 200
MAX_ROW_BYTES: Final = 1024 * 1024

# The module's own limit, for the whole process, is 128 KiB a cell; ours is on the line.
csv.field_size_limit(MAX_LINE_BYTES)

#: What other tools call our fields. The field's own name wins over these, then the first column.
ALIASES: Final = {
    "id": ("post_id", "tweet_id", "status_id", "comment_id", "message_id", "uri"),
    "text": (
        "body", "content", "message", "tweet", "comment", "comment_text", "full_text", "post",
    ),
    "author": ("author_id", "user", "user_id", "username", "user_name", "screen_name", "handle"),
    "created_at": ("date", "datetime", "time", "timestamp", "created", "published_at"),
    "lang": ("language",),
    "langs": ("languages",),
    "tags": ("hashtags",),
    "url": ("link", "permalink"),
    "reply_to": ("in_reply_to", "in_reply_to_id", "parent_id"),
    "links": ("urls",),
}  # fmt: skip
_LISTS = frozenset({"langs", "tags", "mentions", "links"})
_OTHER_FIELDS = ("source", "op", "thread_id", "mentions", "rev")
_SEPARATORS = re.compile(r"[\s,;|]+")

_UNCLOSED: Final = "a quote is opened in this row and not closed"
_MISQUOTED: Final = (
    "a quoted cell goes on after its closing quote; a quote inside one is written twice"
)


class Row(NamedTuple):
    """A row and the line it begins on; `cells` or the reason why there are none."""

    number: int
    raw: bytes
    cells: list[str] | PostError
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """Which cell is which field; `fields` has None where a column is none of ours."""

    names: Sequence[str]
    fields: Sequence[str | None]

    def post(self, cells: Sequence[str], default_id: str) -> Post:
        """The post in a row.

        Raises:
            PostError: the row does not fit the header, or is not a post.
        """
        if len(cells) != len(self.names):
            raise PostError(
                DeadLetterReason.BAD_ROW,
                f"the row has {_count(len(cells), 'cell')}, the header {len(self.names)}",
            )
        data: dict[str, Any] = {}
        meta: dict[str, Any] = {}
        for name, field, cell in zip(self.names, self.fields, cells, strict=True):
            if cell == "":
                continue
            if field is None:
                meta[name] = cell
            else:
                data[field] = _items(cell) if field in _LISTS else cell
        if "text" not in data and data.get("op") != "delete":
            raise PostError(DeadLetterReason.NO_TEXT, "the cell of the `text` column is empty")
        if meta:
            data["meta"] = meta
        return post_from_object(data, default_id=default_id)


def columns_of(header: Sequence[str], where: str) -> Columns:
    """The columns that a header row names.

    Raises:
        SourceError: there is no column with the text.
    """
    names = [name.strip() for name in header]
    lowered = [name.lower().replace(" ", "_") for name in names]
    fields: list[str | None] = [None] * len(names)
    for field in (*ALIASES, *_OTHER_FIELDS):
        known = next((n for n in (field, *ALIASES.get(field, ())) if n in lowered), None)
        if known is not None:
            fields[lowered.index(known)] = field
    if "text" not in fields:
        raise SourceError(
            f"no column holds the text; the header names {', '.join(f'`{n}`' for n in names)}",
            where=where,
            hint="name one column `text` in the first row, or read plain lines with --text",
        )
    return Columns(names, fields)


class RowReader:
    """Lines in, rows out; holds back the lines of a row that has not ended.

    Args:
        delimiter: `,` or a tab.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._literal_fallback = delimiter == "\t"
        self._held: deque[RawLine] = deque()
        self.columns = 0  # known after the header; only TSV asks

    def feed(self, lines: Iterable[RawLine]) -> Iterator[Row]:
        """The rows that end in these lines; blank lines are rows with one empty cell."""
        self._held.extend(lines)
        while self._held and (row := self._row(final=False)) is not None:
            yield row

    def finish(self) -> Iterator[Row]:
        """The rows that the end of the file completes."""
        while self._held and (row := self._row(final=True)) is not None:
            yield row

    def _row(self, *, final: bool) -> Row | None:
        """The next row, or None while lines that it may go on with are still to come."""
        first = self._held[0]
        if b'"' not in first.value or first.cut:
            return self._finished(1, _decoded(first.value).split(self._delimiter))
        text = ""
        for taken, line in enumerate(self._held, 1):
            if taken > MAX_ROW_LINES or len(text) > MAX_ROW_BYTES or line.cut:
                return self._refused(_UNCLOSED)
            text = f"{text}\n{_decoded(line.value)}" if taken > 1 else _decoded(line.value)
            if b'"' not in line.value:
                continue
            try:
                cells = next(csv.reader([text], delimiter=self._delimiter, strict=True))
            except csv.Error as exc:
                if str(exc) == "unexpected end of data":
                    continue  # inside quotes: the row goes on
                return self._refused(_MISQUOTED)
            if self._literal_fallback and not self._plausible(cells, taken):
                return self._refused(_MISQUOTED)
            return self._finished(taken, cells)
        return self._refused(_UNCLOSED) if final else None

    def _plausible(self, cells: list[str], taken: int) -> bool:
        """Whether a TSV row read with quotes is what its writer meant."""
        if self.columns and len(cells) != self.columns:
            return False
        return taken == 1 or not any("\t" in cell for cell in cells)

    def _refused(self, why: str) -> Row:
        """The first held line alone, where reading it with quotes failed."""
        if self._literal_fallback:
            return self._finished(1, _decoded(self._held[0].value).split(self._delimiter))
        return self._finished(1, PostError(DeadLetterReason.BAD_ROW, why))

    def _finished(self, taken: int, cells: list[str] | PostError) -> Row:
        lines = [self._held.popleft() for _ in range(taken)]
        raw = lines[0].value if taken == 1 else b"\n".join(line.value for line in lines)
        if lines[0].cut:
            cells = PostError(
                DeadLetterReason.TOO_LARGE, f"the line is longer than {MAX_LINE_BYTES:,} bytes"
            )
        elif not isinstance(cells, PostError):
            cells = _not_utf8(raw) or cells
        return Row(lines[0].number, raw, cells, lines[0].cut)


def _decoded(value: bytes) -> str:
    # The structure of a row can be read whatever the encoding of its text; see _not_utf8.
    return value.decode("utf-8", "surrogateescape")


def _not_utf8(raw: bytes) -> PostError | None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        return not_utf8(raw, exc)
    return None


def not_utf8(raw: bytes, exc: UnicodeDecodeError) -> PostError:
    """The error of a line in another encoding."""
    return PostError(
        DeadLetterReason.NOT_UTF8,
        f"byte {exc.start} (0x{raw[exc.start]:02x}) is not UTF-8: the text is in another encoding",
    )


def _items(cell: str) -> list[str]:
    """`a,b`, `a; b`, `#a #b` or `["a", "b"]`."""
    if cell.startswith("["):
        try:
            return msgspec.json.decode(cell, type=list[str])
        except msgspec.DecodeError:
            pass  # a bracket, not JSON
    return [item for part in _SEPARATORS.split(cell) if (item := part.strip("#[]'\""))]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
