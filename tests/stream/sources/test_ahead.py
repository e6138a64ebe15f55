from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from stream.sources.ahead import made_ahead, made_ahead_or_idle, read_ahead


def breaking(after: int) -> Iterator[list[int]]:
    for n in range(after):
        yield [n]
    raise ValueError("broken")


class Endless:
    """Items without end, and whether anybody still asks for them."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[list[int]]:
        try:
            while True:
                yield [1]
        finally:
            self.closed.set()


def drain(items: Iterator[list[int]], seen: list[list[int]]) -> None:
    for item in items:
        seen.append(item)  # noqa: PERF402 - extend would lose them with the error


def test_an_error_comes_after_what_preceded_it() -> None:
    seen: list[list[int]] = []

    with pytest.raises(ValueError, match="broken"):
        drain(made_ahead(breaking(5)), seen)

    assert seen == [[n] for n in range(5)]


async def test_the_event_loop_gets_the_items_and_then_the_error() -> None:
    batches = read_ahead(breaking(20))

    seen = [await anext(batches) for _ in range(20)]

    assert seen == [[n] for n in range(20)]
    with pytest.raises(ValueError, match="broken"):
        await anext(batches)


def test_who_stops_taking_stops_the_making() -> None:
    source = Endless()
    items = made_ahead(source)
    next(items)

    items.close()  # type: ignore[attr-defined]

    assert source.closed.wait(10)


async def test_a_loop_that_stops_taking_stops_the_making() -> None:
    source = Endless()
    batches = read_ahead(source)
    await anext(batches)

    await batches.aclose()  # type: ignore[attr-defined]

    assert await asyncio.to_thread(source.closed.wait, 10)


def test_a_pause_is_told() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        gate.wait(10)
        yield 2

    made = made_ahead_or_idle(items(), 0.01)
    assert next(made) == 1
    assert next(made) is None
    gate.set()
    assert [item for item in made if item is not None] == [2]
