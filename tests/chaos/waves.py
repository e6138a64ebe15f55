"""Posts as time goes by, in tags that are calm, and toxic, and calm again: which alerts that must give.

The invariant: whether a post belongs to a wave follows from its tag and its time alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer

from stream.alerts.episodes import alert_id
from stream.kafka.client import aiokafka_config
from stream.settings import KafkaSettings
from stream.topics import POSTS

WINDOW_S = 10
#: Of every so many windows of a tag the first ones are a wave.
PERIOD, WAVE = 4, 2
TAGS = 6
POSTS_PER_S = 30
CALM = ("a lovely walk along the river", "the bakery opens at eight", "we planted two apple trees")
TOXIC = ("you are a stupid idiot", "shut up you pathetic moron", "what a disgusting idiot you are")


@dataclass
class Traffic:
    """Posts as time goes by: what was sent, and what has to come of it."""

    seed: int
    begun: int = 0
    #: By post its place among all, and the windows (tag, start) that are toxic.
    posts: list[str] = field(default_factory=list)
    waves: set[tuple[str, int]] = field(default_factory=set)

    def is_wave(self, tag: int, start: int) -> bool:
        """Whether a tag is toxic in the window that starts then."""
        return (start // WINDOW_S + tag) % PERIOD < WAVE

    async def run(self, kafka: KafkaSettings, until: Callable[[], bool]) -> None:
        """Send; stops between two windows once it is `until`, and when no wave is on."""
        dice = random.Random(self.seed)
        topic = POSTS.full_name(kafka.topic_prefix)
        producer = AIOKafkaProducer(**aiokafka_config(kafka), acks="all")
        await producer.start()
        try:
            self.begun = start = int(time.time()) // WINDOW_S * WINDOW_S + WINDOW_S
            last = 0
            while not last or start < last:
                if not last and until():
                    last = start + 2 * WINDOW_S  # the end is calm: every alert has its resolve
                await self._window(producer, topic, start, dice, calm=bool(last))
                start += WINDOW_S
        finally:
            await producer.stop()

    async def _window(
        self, producer: Any, topic: str, start: int, dice: random.Random, *, calm: bool
    ) -> None:
        for number in range(POSTS_PER_S * WINDOW_S):
            at = start + number / POSTS_PER_S
            await asyncio.sleep(max(0.0, at - time.time()))
            tag = number % TAGS
            toxic = not calm and self.is_wave(tag, start)
            post: dict[str, Any] = {
                "id": f"w{len(self.posts)}",
                "text": f"{dice.choice(TOXIC if toxic else CALM)} #t{tag}",
                "author": f"a{dice.randrange(200)}",
                "tags": [f"t{tag}"],
            }
            partition = number // TAGS % len(await producer.partitions_for(topic))
            await producer.send(
                topic, json.dumps(post).encode(), partition=partition, timestamp_ms=int(at * 1000)
            )
            self.posts.append(post["id"])
            if toxic:
                self.waves.add((f"t{tag}", start))

    @property
    def episodes(self) -> list[str]:
        """The ids of the alerts that there must be, by the posts alone."""
        return [
            alert_id("toxic", tag, start)
            for tag, start in sorted(self.waves)
            if (tag, start - WINDOW_S) not in self.waves
        ]
