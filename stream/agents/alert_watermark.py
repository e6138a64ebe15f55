"""How far the wall clock can be believed: asks the broker what is still on its way to `metrics`.

After a start nothing is believed until all that was posted before has been counted: the workers
that label and count may have been killed with us, and what happened meanwhile is not silence.
Later the clock is late by as much as posts need to be counted, and ends where that is not known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from stream.alerts.watermark import Progress, Watermark
from stream.errors import TidegateError
from stream.kafka.admin import open_admin
from stream.kafka.ledger import Partition
from stream.kafka.offsets import offset_ranges
from stream.logs import get_logger
from stream.roles import Duty, group_of
from stream.settings import Settings
from stream.topics import DECISIONS, LABELS, METRICS, POSTS, Topic

log = get_logger(__name__)

#: The roles that stand between a post and its metrics, and what of theirs they must have read.
_STAGES: Final[tuple[tuple[str, tuple[Topic, ...]], ...]] = (
    ("label", (POSTS,)),
    ("decide", (LABELS,)),
    ("aggregate", (LABELS, DECISIONS)),
)
#: Between looks while nothing is known yet, and later.
_FIRST_EVERY_S: Final = 0.5
_EVERY_S: Final = 2.0
#: What is known may be so old before it is looked again.
_FRESH_S: Final = 5.0


class Watch:
    """Keeps the watermark up to date.

    Args:
        settings: all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = METRICS.full_name(settings.kafka.topic_prefix)
        stages = [partial(self._progress, role, topics) for role, topics in _STAGES]
        self._watermark = Watermark(stages, self._end)
        self._looked = asyncio.Event()
        #: Until metrics up to here are read, they are no clock: other partitions' are missing.
        self._held_until = 0

    async def run(self) -> None:
        """Look until cancelled."""
        watermark = self._watermark
        while True:
            before = watermark.mark
            if before is None or watermark.under_way or time.time() - before.at > _FRESH_S:
                try:
                    await asyncio.to_thread(watermark.look, time.time())
                except TidegateError as exc:
                    log.warning("what is not counted yet cannot be asked", reason=str(exc))
                if before is None and watermark.mark is not None:
                    self._held_until = 0 if watermark.at_once else watermark.mark.end
                self._looked.set()
            await asyncio.sleep(_FIRST_EVERY_S if watermark.mark is None else _EVERY_S)

    async def looked(self) -> None:
        """Wait for the first look."""
        await self._looked.wait()

    def holds(self, next_offset: int) -> bool:
        """Whether the metrics before an offset are too few to tell the time: a backlog is read."""
        return self._watermark.mark is None or next_offset < self._held_until

    def clock(self, next_offset: int, now: float, grace_s: float) -> float | None:
        """The time up to which it is known what happened; None: nothing is known.

        Args:
            next_offset: of the metrics that were read.
            now: seconds since the epoch.
            grace_s: which the rules wait in any case.
        """
        mark = self._watermark.mark
        if mark is None or next_offset < mark.end:
            return None
        late_s = max(0.0, mark.delay_s - grace_s)
        # Not far ahead of what is known: somebody on the way may be dead.
        return min(now - late_s, mark.at + mark.delay_s + _FRESH_S + 2 * _EVERY_S)

    def _progress(
        self, role: str, topics: tuple[Topic, ...]
    ) -> Mapping[Partition, Progress] | None:
        settings = self._settings
        with open_admin(settings.kafka) as admin:
            rows = admin.lag(group_of(settings, Duty(role)), topics).partitions
        if all(row.committed is None for row in rows):
            return None  # nobody ever played this role here
        return {
            Partition(row.topic, row.partition): Progress(row.end - row.lag, row.end)
            for row in rows
        }

    def _end(self) -> int:
        (within,) = offset_ranges(self._settings.kafka, [(self._metrics, 0)]).values()
        return within.end
