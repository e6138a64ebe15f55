from __future__ import annotations

import random

from dashboard.reader import Bucket
from dashboard.waves import find_waves

STEP_S = 10


def buckets(posts: list[int], abusive: list[int]) -> list[Bucket]:
    return [
        Bucket(n * STEP_S, count, 0, 0, 0, bad)
        for n, (count, bad) in enumerate(zip(posts, abusive, strict=True))
    ]


def test_a_wave_is_found_where_it_is() -> None:
    calm, wave = [0, 1, 1, 0, 1] * 4, [9, 11, 10, 12]
    found = find_waves(buckets([20] * 44, calm + wave + calm), STEP_S)
    assert [(w.from_s, w.to_s) for w in found] == [(200, 240)]
    assert found[0].share == 42 / 80
    assert found[0].usual == 0.05


def test_a_short_lull_does_not_cut_a_wave_in_two() -> None:
    abusive = [0] * 20 + [9, 10, 1, 0, 1, 10, 9] + [0] * 20
    assert len(find_waves(buckets([20] * 47, abusive), STEP_S)) == 1


def test_two_waves_far_apart_are_two() -> None:
    abusive = [0] * 10 + [9, 10] + [0] * 10 + [9, 10] + [0] * 10
    found = find_waves(buckets([20] * 34, abusive), STEP_S)
    assert [wave.from_s // STEP_S for wave in found] == [10, 22]


def test_a_level_that_is_always_high_is_no_wave() -> None:
    rng = random.Random(4)
    steady = [sum(rng.random() < 0.3 for _ in range(30)) for _ in range(90)]
    assert find_waves(buckets([30] * 90, steady), STEP_S) == []


def test_chance_in_a_thin_stream_is_no_wave() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        thin = [sum(rng.random() < 0.04 for _ in range(12)) for _ in range(90)]
        assert find_waves(buckets([12] * 90, thin), STEP_S) == []


def test_nothing_gives_nothing() -> None:
    assert find_waves([], STEP_S) == []
    assert find_waves(buckets([0] * 5, [0] * 5), STEP_S) == []
