"""The bytes of an input, whatever they are packed in: a file or stdin, gzip or plain, UTF-8 or UTF-16.

The invariant: memory is bounded by the size of a chunk, also for a gzip bomb; and everything that
can be read is yielded before a `SourceError` says where reading ended.
"""

from __future__ import annotations

import codecs
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.errors import SourceError

STDIN = "-"
CHUNK_BYTES = 256 * 1024
#: What one step of decompression may give; a bomb of a thousand to one comes out in such pieces.
_INFLATE_BYTES = 1024 * 1024

#: Packings that we do not open, by their first bytes, with what to type instead.
_FOREIGN = (
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc {} | tidegate ... -"),
    (b"BZh91AY&SY", "bzip2", "bzip2 -dc {} | tidegate ... -"),
    (b"\xfd7zXZ\x00", "xz", "xz -dc {} | tidegate ... -"),
    (b"PK\x03\x04", "zip", "unzip -p {} | tidegate ... -"),
    (b"PAR1\x15", "Parquet", "export it as JSONL first"),
    (b"SQLite format 3\x00", "SQLite", "export it as JSONL first"),
)
#: A UTF-32 mark begins with a UTF-16 mark: the longer ones come first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_chunks(path: str, on_read: Callable[[int], None] | None = None) -> Iterator[bytes]:
    """The content of `path` (`-` is stdin) as UTF-8, unpacked, without byte-order mark.

    Bytes that are not UTF-8 in a file that is not UTF-16 or UTF-32 come through as they are: they
    are a line's mistake, not the file's.

    Args:
        path: a file or `-`.
        on_read: is told the number of bytes of each read, packed as they are in the file.

    Raises:
        SourceError: it cannot be opened, or reading ended before the file did.
    """
    with _opened(path) as descriptor:
        yield from _as_utf8(_unpacked(_raw(descriptor, path, on_read), path), path)


def check_readable(path: str) -> None:
    """Say at once what is wrong with a file that will be read later.

    Raises:
        SourceError: it cannot be opened.
    """
    if path != STDIN and not _is_pipe(path):
        with _opened(path):
            pass


def _is_pipe(path: str) -> bool:
    # Opening a pipe and closing it again would end whoever writes to it.
    try:
        return Path(path).is_fifo()
    except (OSError, ValueError):
        return False


@contextmanager
def _opened(path: str) -> Iterator[int]:
    if path == STDIN:
        yield sys.stdin.fileno()
        return
    if Path(path).is_dir():
        raise SourceError("this is a directory, not a file", where=path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (OSError, ValueError) as exc:
        raise SourceError(_why("cannot be opened", exc), where=path) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _why(what: str, exc: Exception) -> str:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return f"{what}: {reason[:1].lower()}{reason[1:]}"


def _raw(descriptor: int, path: str, on_read: Callable[[int], None] | None) -> Iterator[bytes]:
    # os.read gives what is there: lines that trickle in through a pipe are not held back.
    while True:
        try:
            chunk = os.read(descriptor, CHUNK_BYTES)
        except OSError as exc:
            raise SourceError(_why("cannot be read", exc), where=path) from exc
        if not chunk:
            return
        if on_read is not None:
            on_read(len(chunk))
        yield chunk


def _with_head(chunks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes, where there are that many, and the chunks with them again."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= size:
            break

    def again() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    return head[:size], again()


def _unpacked(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    # Two bytes tell gzip; one must not wait for more of them where a person types the lines.
    head, chunks = _with_head(chunks, 2)
    if head == b"\x1f\x8b":
        return _inflated(chunks, path)
    return _refuse_foreign(chunks, path)


def _refuse_foreign(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    first = next(chunks, b"")
    for magic, name, instead in _FOREIGN:
        if first.startswith(magic):
            raise SourceError(
                f"this is a {name} file; plain text and gzip can be read",
                where=path,
                hint=instead.format(path),
            )
    if first:
        yield first
    yield from chunks


def _inflated(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The content of one or more gzip members, zero padding after them allowed."""
    member = zlib.decompressobj(wbits=31)
    fresh = True
    read = 0
    for chunk in chunks:
        data = chunk
        while data:
            if fresh and not data.strip(b"\0"):
                break
            before = member.copy()
            try:
                piece = member.decompress(data, _INFLATE_BYTES)
            except zlib.error as exc:
                yield from _salvaged(before, data)
                raise SourceError(
                    f"the gzip data is damaged near byte {read + len(chunk) - len(data)}: "
                    f"{_zlib_reason(exc)}",
                    where=path,
                    hint="every line before that place was read; get the file again for the rest",
                ) from exc
            fresh = False
            if piece:
                yield piece
            if member.eof:
                data = member.unused_data
                member = zlib.decompressobj(wbits=31)
                fresh = True
            else:
                data = member.unconsumed_tail
        read += len(chunk)
    if not fresh:
        raise SourceError(
            f"the gzip data ends in the middle, after {read} bytes",
            where=path,
            hint="every line before that place was read; get the file again for the rest",
        )


def _salvaged(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What comes before the damage: the failing call gives nothing, so byte by byte."""
    for at in range(len(data)):
        try:
            piece = member.decompress(data[at : at + 1])
        except zlib.error:
            return
        if piece:
            yield piece


def _zlib_reason(exc: zlib.error) -> str:
    return str(exc).rpartition(": ")[2]


def _as_utf8(chunks: Iterator[bytes], path: str) -> Iterator[bytes]:
    head, chunks = _with_head(chunks, 4)
    encoding = _encoding(head)
    if encoding is None:
        yield from chunks
        return
    mark = next((mark for mark, name in _MARKS if name == encoding and head.startswith(mark)), b"")
    chunk = next(chunks)
    if encoding != "utf-8" and not _throughout(encoding, chunk):
        yield chunk
        yield from chunks
        return
    first = chunk[len(mark) :]
    if encoding == "utf-8":
        yield first
        yield from chunks
        return
    # Half a surrogate pair becomes three bytes that are not UTF-8, and so its own line's mistake.
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    try:
        yield decoder.decode(first).encode("utf-8", "surrogatepass")
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise SourceError(
            f"the file begins as {encoding.upper()} and goes on as something else: {exc.reason}",
            where=path,
        ) from exc


def _throughout(encoding: str, chunk: bytes) -> bool:
    """Whether the lines end as they do in that encoding: one line in it does not make a file."""
    end = b"\n\0" if encoding.endswith("le") else b"\0\n"
    return chunk.count(end) * 2 >= chunk.count(b"\n")


def _encoding(first: bytes) -> str | None:
    """The encoding that the first bytes tell: a mark, or the zeros of UTF-16 without one."""
    for mark, name in _MARKS:
        if first.startswith(mark):
            return name
    pair = first[:4]
    if len(pair) == 4 and pair[0] and pair[2] and pair[1] == pair[3] == 0:
        return "utf-16-le"
    if len(pair) == 4 and pair[1] and pair[3] and pair[0] == pair[2] == 0:
        return "utf-16-be"
    return None
