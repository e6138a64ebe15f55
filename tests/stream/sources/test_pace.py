from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stream.sources import pace
from stream.sources.pace import Pace


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    monkeypatch.setattr(pace, "asyncio", made)
    return made


async def collected(slices: AsyncIterator[list[int]], clock: Clock) -> list[tuple[float, int]]:
    return [(round(clock.now_s - 1000, 6), item) async for piece in slices for item in piece]


async def test_without_a_rate_everything_passes_at_once(clock: Clock) -> None:
    passed = await collected(Pace(None).slices([1, 2, 3]), clock)  # type: ignore[arg-type]

    assert passed == [(0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize("rate", [0.5, 7, 1000, 100_000])
async def test_items_pass_at_the_rate(rate: float, clock: Clock) -> None:
    items = list(range(int(rate * 10) + 1))

    passed = await collected(Pace(rate).slices(items), clock)  # type: ignore[arg-type]

    assert [item for _, item in passed] == items
    for at_s, item in passed:
        assert item / rate - 0.001 <= at_s <= item / rate + 0.05


async def test_several_batches_are_one_stream(clock: Clock) -> None:
    paced = Pace(10)

    passed = [
        moment
        for n in range(20)
        for moment in await collected(paced.slices([n]), clock)  # type: ignore[arg-type]
    ]

    assert passed[-1][0] == pytest.approx(1.9, abs=0.05)


async def test_a_source_that_stalled_is_not_caught_up_with(clock: Clock) -> None:
    paced = Pace(10)
    await collected(paced.slices([0]), clock)  # type: ignore[arg-type]
    clock.now_s += 60

    passed = await collected(paced.slices([1, 2, 3]), clock)  # type: ignore[arg-type]

    assert [round(at_s - passed[0][0], 1) for at_s, _ in passed] == [0, 0.1, 0.2]
