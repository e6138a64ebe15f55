"""Up to which moment everything that was posted is in the metrics. Pure: the caller looks.

Posts pass stage after stage (labelled, decided, counted), each a consumer group. Whoever looks
notes where the topics of a stage end; once its group has committed that far, everything from
before the look has passed, and the next stage's ends are noted.

The invariant: when `mark` is set, all that was in the posts at `mark.at` and could be counted is
in the metrics below `mark.end`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stream.kafka.ledger import Partition


class Progress(NamedTuple):
    """How far a group is in a partition: the next record it has not committed, and the end."""

    done: int
    end: int


#: What a look at a stage gives: by partition how far it is; None: nobody plays this role here.
Look = Callable[[], Mapping[Partition, Progress] | None]


@dataclass(frozen=True, slots=True)
class Mark:
    """At `at` (seconds since the epoch) nothing was posted whose metrics are at or after `end`.

    `delay_s` is how long that took to be seen: no post takes longer to be counted.
    """

    at: float
    end: int
    delay_s: float


class Watermark:
    """One chain of looks after the other.

    Args:
        stages: looks at the groups in the order in which posts meet them.
        end: where the metrics end now.
    """

    def __init__(self, stages: Sequence[Look], end: Callable[[], int]) -> None:
        self._stages = stages
        self._end = end
        self._begun = 0.0
        self._stage = 0
        self._wanted: Mapping[Partition, int] | None = None
        self.mark: Mark | None = None
        #: Whether the last look ended a chain that it began: nothing is on its way.
        self.at_once = False

    @property
    def under_way(self) -> bool:
        """Whether a chain has begun and is not at its end."""
        return self._wanted is not None or self._stage > 0

    def look(self, now: float) -> None:
        """Go on as far as the stages have got; blocking, as the looks are."""
        begins = not self.under_way
        if begins:
            self._begun = now
        self.at_once = False
        while self._stage < len(self._stages):
            found = self._stages[self._stage]()
            if found is not None:
                if self._wanted is None:
                    self._wanted = {place: each.end for place, each in found.items()}
                if any(found[p].done < end for p, end in self._wanted.items() if p in found):
                    return
            self._wanted = None
            self._stage += 1
        self.mark = Mark(self._begun, self._end(), now - self._begun)
        self._stage, self.at_once = 0, begins
