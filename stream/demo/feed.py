"""What the demo feeds: a file of the user's, or the feed that ships with the program.

The shipped feed (`demo_feed.jsonl`) was written for the demo: a calm stretch, a wave of abuse around
one tag, calm again. Each of its posts has `offset_s`, seconds from the beginning of a round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from stream.records import Post, rfc3339
from stream.sources.ahead import read_ahead
from stream.sources.files import FileSource, Format, Line, PostLine
from stream.sources.pace import Pace

SHIPPED_FEED: Final = Path(__file__).with_name("demo_feed.jsonl")
#: Breath between two rounds of the shipped feed.
_PAUSE_S = 5.0
_PIECE = 256


async def file_feed(source: FileSource, rate: float | None) -> AsyncIterator[Sequence[Line]]:
    """A file's lines in small pieces, as fast as they are taken or at a steady rate."""
    pace = Pace(rate)
    async for batch in read_ahead(source.batches()):
        for start in range(0, len(batch), _PIECE):
            async for piece in pace.slices(batch[start : start + _PIECE]):
                yield piece


def shipped_source() -> FileSource:
    """The shipped feed, to be read like any other file."""
    return FileSource(str(SHIPPED_FEED), Format.JSONL)


async def shipped_feed(rate: float | None) -> AsyncIterator[Sequence[Line]]:
    """One round of the shipped feed at its own pace, or at a steady rate; posted now."""
    lines = [line for line in shipped_source() if isinstance(line, PostLine)]
    if rate is not None:
        async for piece in Pace(rate).slices(lines):
            yield [_now(line) for line in piece]
        return
    start_s = time.monotonic()
    for line in lines:
        offset_s = float(line.post.meta.get("offset_s", 0.0))
        await asyncio.sleep(max(0.0, start_s + offset_s - time.monotonic()))
        yield [_now(line)]
    await asyncio.sleep(_PAUSE_S)


def _now(line: PostLine) -> PostLine:
    meta = {name: value for name, value in line.post.meta.items() if name != "offset_s"}
    post: Post = msgspec.structs.replace(
        line.post, created_at=rfc3339(time.time_ns() // 1_000_000), meta=meta
    )
    return PostLine(line.where, post)
