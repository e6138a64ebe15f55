"""Posts from a file or stdin: JSONL, CSV, TSV, a JSON array or plain lines, each plain or gzip.

The invariant: every line that is not blank comes out exactly once, in order, as a `PostLine` or as
a `BadLine` with its bytes and the reason. Nothing but the input as a whole (`SourceError`) ends it,
and memory is bounded by the line and by the chunk (`MAX_LINE_BYTES`, `MAX_ARRAY_BYTES`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stream.errors import PostError, SourceError
from stream.post_decoding import decode_post
from stream.records import DeadLetterReason, Post
from stream.sources.chunks import STDIN, read_chunks
from stream.sources.lines import MAX_LINE_BYTES, RawLine, split_lines
from stream.sources.tables import Columns, Row, RowReader, columns_of, not_utf8

#: A JSON array is held whole; JSONL has no such bound.
MAX_ARRAY_BYTES: Final = 64 * 1024 * 1024
_BATCH = 1000


class Format(StrEnum):
    """How the posts stand in a file."""

    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    JSON = "json"
    TEXT = "text"


_SUFFIXES = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
}
#: A first line that looks like a table's header and has a column for the text.
_HEADER = re.compile(rb'^[\w "\-]+([,\t][\w "\-]+)*$')


class PostLine(NamedTuple):
    """A line that is a post; `where` is `file:line`."""

    where: str
    post: Post


class BadLine(NamedTuple):
    """A line that is none; `raw` is all of it, or its beginning where it was `cut`."""

    where: str
    raw: bytes
    error: PostError
    cut: bool = False


Line = PostLine | BadLine


class FileSource:
    """The posts of one input.

    Args:
        path: a file, or `-` for stdin.
        form: how the posts stand in it; default: by the name, else by the first line.

    It may be read again, stdin apart. `lines` and `blank` count what was read so far in all rounds,
    a table's header left out; `bytes_read` counts this round's bytes as they are in the file, of
    `size` in all where that is known.
    """

    def __init__(self, path: str, form: Format | None = None) -> None:
        self.path = path
        self.lines = 0
        self.blank = 0
        self.bytes_read = 0
        self.size = _size(path)
        self._form = form
        self._place = "stdin" if path == STDIN else path
        self._name = "stdin" if path == STDIN else Path(path).name

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[Line]]:
        """The lines in lists of those that arrived together; none of them is empty.

        Raises:
            SourceError: the input cannot be read, or not to its end; what came before was yielded.
        """
        for batch in self._batches():
            self.lines += len(batch)
            if batch:
                yield batch

    def _batches(self) -> Iterator[list[Line]]:
        self.bytes_read = 0
        chunks = read_chunks(self.path, self._count_bytes)
        form = self._form or _by_name(self._name)
        if form is None or form is Format.JSON:
            array, chunks = _begins_array(chunks)
            if array and (form is Format.JSON or _suffix(self._name) == ".json"):
                return self._array(chunks)
            form = None if form is Format.JSON else form
        lines = split_lines(chunks)
        if form is None:
            form, lines = _by_first_line(lines)
        if form in (Format.CSV, Format.TSV):
            return self._table(lines, "," if form is Format.CSV else "\t")
        if form is Format.TEXT:
            return ([line for raw in batch if (line := self._text(raw))] for batch in lines)
        return ([line for raw in batch if (line := self._json(raw))] for batch in lines)

    def _count_bytes(self, count: int) -> None:
        self.bytes_read += count

    def _json(self, raw: RawLine) -> Line | None:
        number, value, cut = raw
        where = f"{self._place}:{number}"
        if cut:
            return BadLine(where, value, _too_long(), cut=True)
        try:
            return PostLine(where, decode_post(value, default_id=f"{self._name}:{number}"))
        except PostError as exc:
            if not value or value.isspace():
                self.blank += 1
                return None
            return BadLine(where, value, _at(exc, where))

    def _text(self, raw: RawLine) -> Line | None:
        number, value, cut = raw
        where = f"{self._place}:{number}"
        if not value or value.isspace():
            self.blank += 1
            return None
        if cut:
            return BadLine(where, value, _too_long(), cut=True)
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError as exc:
            return BadLine(where, value, _at(not_utf8(value, exc), where))
        return PostLine(where, Post(id=f"{self._name}:{number}", text=text))

    def _table(self, lines: Iterable[list[RawLine]], delimiter: str) -> Iterator[list[Line]]:
        reader = RowReader(delimiter)
        columns: Columns | None = None
        for rows in chain((reader.feed(batch) for batch in lines), (reader.finish(),)):
            batch: list[Line] = []
            for row in rows:
                if row.cells == [""] or row.raw.isspace():
                    self.blank += 1
                elif columns is None:
                    columns = self._columns(row)
                    reader.columns = len(columns.names)
                else:
                    batch.append(self._row(row, columns))
            yield batch

    def _columns(self, row: Row) -> Columns:
        where = f"{self._place}:{row.number}"
        if isinstance(row.cells, PostError):
            raise SourceError(f"the header cannot be read: {row.cells.message}", where=where)
        return columns_of(row.cells, where)

    def _row(self, row: Row, columns: Columns) -> Line:
        where = f"{self._place}:{row.number}"
        if isinstance(row.cells, PostError):
            return BadLine(where, row.raw, _at(row.cells, where), row.cut)
        try:
            post = columns.post(row.cells, default_id=f"{self._name}:{row.number}")
        except PostError as exc:
            return BadLine(where, row.raw, _at(exc, where))
        return PostLine(where, post)

    def _array(self, chunks: Iterator[bytes]) -> Iterator[list[Line]]:
        """The elements of a JSON array; their place is `file[index]`, from 0."""
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > MAX_ARRAY_BYTES:
                raise SourceError(
                    f"a JSON array of more than {MAX_ARRAY_BYTES:,} bytes is not read",
                    where=self._place,
                    hint="make it JSONL, one post a line: jq -c '.[]' FILE | tidegate ... -",
                )
        try:
            elements = msgspec.json.decode(data, type=list[msgspec.Raw])
        except (msgspec.DecodeError, RecursionError) as exc:
            raise SourceError(
                f"not a JSON array: {_lowered(str(exc).removeprefix('JSON is malformed: '))}",
                where=self._place,
                hint="JSONL, one post a line, loses only the lines that are broken",
            ) from exc
        for start in range(0, len(elements), _BATCH):
            yield [
                self._element(index, bytes(elements[index]))
                for index in range(start, min(start + _BATCH, len(elements)))
            ]

    def _element(self, index: int, value: bytes) -> Line:
        where = f"{self._place}[{index}]"
        try:
            return PostLine(where, decode_post(value, default_id=f"{self._name}[{index}]"))
        except PostError as exc:
            return BadLine(where, value, _at(exc, where))


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _too_long() -> PostError:
    return PostError(
        DeadLetterReason.TOO_LARGE, f"the line is longer than {MAX_LINE_BYTES:,} bytes"
    )


def _at(error: PostError, where: str) -> PostError:
    error.where = where
    return error


def _size(path: str) -> int | None:
    """The size of a regular file; None for stdin, a pipe or what is not there."""
    if path == STDIN:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - a path may hold a NUL, which pathlib turns into False
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _suffix(name: str) -> str:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in (".gz", ".gzip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _by_name(name: str) -> Format | None:
    return _SUFFIXES.get(_suffix(name))


def _begins_array(chunks: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether the first byte that is not white space is `[`; and the chunks again."""
    held: list[bytes] = []
    for chunk in chunks:
        held.append(chunk)
        if start := chunk.lstrip():
            return start.startswith(b"["), chain(held, chunks)
    return False, iter(held)


def _by_first_line(
    lines: Iterator[list[RawLine]],
) -> tuple[Format, Iterator[list[RawLine]]]:
    """The format that the first line tells; JSONL where it is no table's header."""
    held: list[list[RawLine]] = []
    for batch in lines:
        held.append(batch)
        first = next((line.value for line in batch if line.value.strip()), None)
        if first is not None:
            return _by_header(first), chain(held, lines)
    return Format.JSONL, iter(held)


def _by_header(first: bytes) -> Format:
    if len(first) > 4096 or not _HEADER.match(first):
        return Format.JSONL
    delimiter = "\t" if b"\t" in first else ","
    try:
        columns_of([name.strip('"') for name in first.decode().split(delimiter)], "")
    except SourceError:
        return Format.JSONL
    return Format.TSV if delimiter == "\t" else Format.CSV
