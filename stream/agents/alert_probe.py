"""What pipeline rules look at: how far groups are behind, dead letters, used-up quotas.

Asked of the broker every few seconds, in a thread. A question that fails is not a fact: the
rules then see nothing new, and nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from stream.alerts.evaluator import Evaluator
from stream.alerts.rules import PipelineMeasure
from stream.errors import ConfigError, TidegateError
from stream.kafka.admin import open_admin
from stream.kafka.scan import Scanner, newest, open_scanner
from stream.logs import get_logger
from stream.outcomes import Quota, decode_quota
from stream.records import rfc3339
from stream.roles import Duty, available, group_of, role_named
from stream.settings import Settings
from stream.topics import DEAD_LETTERS, POSTS, QUOTAS

log = get_logger(__name__)

_EVERY_S: Final = 10.0
#: Rules may change while nobody asks.
_IDLE_S: Final = 1.0
#: The share of dead letters is taken over so long a time, and of no fewer posts.
_RATE_S: Final = 120.0
_LEAST_POSTS: Final = 20
_QUOTA_RECORDS: Final = 20

Observed = list[tuple[PipelineMeasure, str, float, float]]


class Probe:
    """Looks at the pipeline every few seconds.

    Args:
        settings: all of them.
        wanted: whether any rule asks.
    """

    def __init__(self, settings: Settings, wanted: Callable[[], bool]) -> None:
        self._settings = settings
        self._wanted = wanted
        self._counts: deque[tuple[float, int, int]] = deque()
        self._observed: Observed = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if not self._wanted():
                await asyncio.sleep(_IDLE_S)
                continue
            try:
                self._observed += await asyncio.to_thread(self.look)
            except TidegateError as exc:
                log.warning("the pipeline cannot be looked at", reason=str(exc))
            await asyncio.sleep(_EVERY_S)

    def tell(self, evaluator: Evaluator) -> None:
        """Hand over what was seen since the last time."""
        observed, self._observed = self._observed, []
        for measure, part, value, at in observed:
            evaluator.observe(measure, part, value, at)

    def look(self) -> Observed:
        """One look.

        Raises:
            BrokerError: the broker does not answer.
        """
        at = time.time()
        seen: Observed = [
            (PipelineMeasure.LAG, group, float(lag), at) for group, lag in self._lags().items()
        ]
        with open_scanner(self._settings.kafka) as scanner:
            rate = self._dead_letter_rate(at, scanner)
            quotas = self._quotas(at, scanner)
        if rate is not None:
            seen.append((PipelineMeasure.DEAD_LETTER_RATE, "all", rate, at))
        seen += [
            (PipelineMeasure.QUOTA_TRIPPED, rule, float(tripped), at)
            for rule, tripped in quotas.items()
        ]
        return seen

    def _lags(self) -> dict[str, int]:
        """By group how many records it is behind in what its role reads."""
        settings, lags = self._settings, {}
        with open_admin(settings.kafka) as admin:
            for name in available():
                role = role_named(name)
                try:
                    units = role.units(settings)
                except ConfigError:
                    continue  # a file being edited; whoever plays the role says what is wrong
                for unit in units:
                    group = group_of(settings, Duty(name, unit))
                    lag = admin.lag(group, role.reads)
                    if all(row.committed is None for row in lag.partitions):
                        continue  # nobody ever played this role here
                    lags[group] = lag.lag
        return lags

    def _dead_letter_rate(self, at: float, scanner: Scanner) -> float | None:
        prefix = self._settings.kafka.topic_prefix
        names = [topic.full_name(prefix) for topic in (POSTS, DEAD_LETTERS)]
        there = scanner.ranges(*names)
        posts, letters = (sum(each.end for each in there[name].values()) for name in names)
        self._counts.append((at, posts, letters))
        while len(self._counts) > 2 and self._counts[1][0] <= at - _RATE_S:
            self._counts.popleft()
        _, posts_before, letters_before = self._counts[0]
        came = posts - posts_before
        if came < _LEAST_POSTS:
            return 0.0 if letters == letters_before else None
        return min(1.0, (letters - letters_before) / came)

    def _quotas(self, at: float, scanner: Scanner) -> dict[str, int]:
        """By rule in how many partitions its quota of today is used up."""
        kafka, today = self._settings.kafka, rfc3339(int(at * 1000))[:10]
        topic = QUOTAS.full_name(kafka.topic_prefix)
        last: dict[int, Quota] = {}
        places = newest(scanner.ranges(topic)[topic], _QUOTA_RECORDS)
        for record in scanner.read(topic, places):
            with contextlib.suppress(msgspec.DecodeError):
                quota = decode_quota(record.value or b"")
                last[quota.partition] = quota
        tripped: dict[str, int] = {}
        for quota in last.values():
            for rule in {*quota.used, *quota.tripped}:
                now = quota.day == today and rule in quota.tripped
                name = rule or "all rules"
                tripped[name] = tripped.get(name, 0) + now
        return tripped
