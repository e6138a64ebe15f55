"""The watermark over made-up stages: it is never ahead of what was counted, and it arrives."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from stream.alerts.watermark import Mark, Progress, Watermark
from stream.kafka.ledger import Partition


class Line:
    """Posts that pass two stages in a few partitions, as fast as chance will have it."""

    def __init__(self, seed: int, partitions: int) -> None:
        self.dice = random.Random(seed)
        #: By partition the times of what was posted, and how many passed either stage.
        self.posts: list[list[int]] = [[] for _ in range(partitions)]
        self.labelled = [0] * partitions
        self.counted = [0] * partitions
        self.metrics: list[int] = []

    def step(self, now: int) -> None:
        for number, posts in enumerate(self.posts):
            posts.extend([now] * self.dice.choice([0, 0, 1, 3]))
            self.labelled[number] += self.dice.randint(0, len(posts) - self.labelled[number])
            ready = self.labelled[number] - self.counted[number]
            more = self.dice.randint(0, ready)
            self.metrics += posts[self.counted[number] : self.counted[number] + more]
            self.counted[number] += more

    def at_labels(self) -> dict[Partition, Progress]:
        return {
            Partition("posts", n): Progress(self.labelled[n], len(posts))
            for n, posts in enumerate(self.posts)
        }

    def at_counts(self) -> dict[Partition, Progress]:
        return {
            Partition("labels", n): Progress(self.counted[n], self.labelled[n])
            for n in range(len(self.posts))
        }


@given(seed=st.integers(0, 10_000), partitions=st.integers(1, 4))
def test_what_was_posted_before_the_mark_is_before_its_end(seed: int, partitions: int) -> None:
    line = Line(seed, partitions)
    watermark = Watermark([line.at_labels, lambda: None, line.at_counts], lambda: len(line.metrics))
    marks: list[Mark] = []
    for now in range(200):
        line.step(now)
        if line.dice.random() < 0.7:
            watermark.look(now + 0.5)
        if watermark.mark is not None and watermark.mark not in marks:
            marks.append(watermark.mark)
    for _ in range(50):
        line.step(200)
    for mark in marks:
        posted = sum(at <= mark.at for posts in line.posts for at in posts)
        counted = sum(at <= mark.at for at in line.metrics[: mark.end])
        assert counted == posted
    assert marks, "it arrives"


def test_it_waits_for_the_slowest_partition_and_for_no_role_that_nobody_plays() -> None:
    place, other = Partition("posts", 0), Partition("posts", 1)
    far = {place: Progress(10, 10), other: Progress(2, 3)}
    watermark = Watermark([lambda: None, lambda: far], lambda: 7)
    watermark.look(100.0)
    watermark.look(101.0)
    assert (watermark.mark, watermark.under_way) == (None, True)
    # What came after the first look need not have passed.
    far = {place: Progress(10, 50), other: Progress(3, 50)}
    watermark.look(102.0)
    assert (watermark.mark, watermark.under_way) == (Mark(100.0, 7, 2.0), False)
    assert not watermark.at_once
    watermark.look(110.0)
    far = {place: Progress(50, 50), other: Progress(50, 50)}
    watermark.look(111.0)
    watermark.look(120.0)
    assert watermark.mark == Mark(120.0, 7, 0.0)
    assert watermark.at_once, "all had passed when it was looked"
