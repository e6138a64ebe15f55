"""How many posts rules could not be evaluated for, said in the log and not for each of them.

Invariant: no text is said. Why a rule fails on a post, `tidegate policy explain` shows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from stream.logs import get_logger

log = get_logger(__name__)

_EVERY_S: Final = 60.0


class Failures:
    """Counts by rule; says so at the first, and then once a minute.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total: Counter[str] = Counter()
        self._new: Counter[str] = Counter()
        self._said_s = -_EVERY_S

    def count(self, rules: Iterable[str]) -> None:
        """Note the rules that failed on one post."""
        self._new.update(rules)

    def say(self) -> None:
        """Say what is new, when that is due."""
        now_s = self._clock()
        if not self._new or now_s - self._said_s < _EVERY_S:
            return
        self._total.update(self._new)
        for rule, posts in sorted(self._new.items()):
            log.warning(
                "rule could not be evaluated", rule=rule, posts=posts, in_all=self._total[rule]
            )
        self._new.clear()
        self._said_s = now_s
