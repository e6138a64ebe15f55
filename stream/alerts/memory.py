"""What an evaluator remembers over a restart, as records of `alert-state` and `baselines`.

Invariant: a memory that was not written whole does not count; the one before it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from stream.alerts.evaluator import Evaluator, teaching
from stream.alerts.rules import RuleSet
from stream.alerts.state import Seasons, State, restored, stored
from stream.outcomes import (
    ALERT_STATE_SCHEMA,
    BASELINE_SCHEMA,
    AlertState,
    Baseline,
    decode_alert_state,
    decode_baseline,
)
from stream.records import rfc3339

#: In JSON a third more, and a broker's default message is 1 MB.
_PIECE_BYTES: Final = 600_000
#: More of the topic than its last records need not be read: a state has few pieces.
MOST_PIECES: Final = 64
#: Metrics may be written so much before their time, by clocks that differ.
_SLACK_S: Final = 180


@dataclass(slots=True)
class Places:
    """Where in `metrics` an evaluator stands, and where the windows it needs begin.

    `marks` are (tick, offset): the tick that had been evaluated when the offset was read.
    """

    next_offset: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=deque)

    def read(self, offset: int, tick: int | None, longest_s: int) -> None:
        """Note that a record was read, and how far the evaluator is after it."""
        self.next_offset = offset + 1
        if tick is None or (self.marks and self.marks[-1][0] >= tick):
            return
        self.marks.append((tick, offset))
        while len(self.marks) > 1 and self.marks[1][0] <= tick - longest_s - _SLACK_S:
            self.marks.popleft()

    @property
    def rewind_offset(self) -> int:
        """From here on lies every metric that rules still look at."""
        return self.marks[0][1] if self.marks else 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What was read back."""

    state: State
    next_offset: int
    rewind_offset: int


def written_state(evaluator: Evaluator, places: Places, at_ms: int) -> list[AlertState]:
    """The records that keep what an evaluator knows."""
    data = stored(evaluator.state)
    pieces = [data[at : at + _PIECE_BYTES] for at in range(0, len(data), _PIECE_BYTES)]
    return [
        AlertState(
            schema=ALERT_STATE_SCHEMA,
            at=rfc3339(at_ms),
            next_offset=places.next_offset,
            rewind_offset=places.rewind_offset,
            state=piece,
            piece=number,
            pieces=len(pieces),
        )
        for number, piece in enumerate(pieces)
    ]


def read_state(values: Iterable[bytes | None]) -> Memory | None:
    """The newest whole state in these records, which are in their order; None: there is none."""
    found: Memory | None = None
    pieces: list[AlertState] = []
    for value in values:
        try:
            piece = decode_alert_state(value or b"")
        except msgspec.DecodeError:
            continue
        if piece.piece != len(pieces) or (pieces and pieces[0].at != piece.at):
            pieces = []
        if piece.piece != len(pieces):
            continue
        pieces.append(piece)
        if len(pieces) == piece.pieces:
            state = restored(b"".join(each.state for each in pieces))
            if state is not None:
                found = Memory(state, piece.next_offset, piece.rewind_offset)
            pieces = []
    return found


def written_hours(evaluator: Evaluator) -> list[Baseline]:
    """The records that keep what hours taught since this was last asked."""
    finished, evaluator.finished = evaluator.finished, []
    of = evaluator.state.versions
    return [
        Baseline(schema=BASELINE_SCHEMA, rule=rule, of=of[rule], hour=hour, means=means)
        for rule, hour, means in finished
        if rule in of
    ]


def read_hours(values: Iterable[bytes | None], rules: RuleSet) -> Seasons:
    """What past hours taught these rules; not what they were taught when they asked otherwise."""
    of = {rule.id: teaching(rule) for rule in rules.rules}
    seasons: Seasons = {}
    for value in values:
        try:
            baseline = decode_baseline(value or b"")
        except msgspec.DecodeError:
            continue
        if of.get(baseline.rule) == baseline.of:
            seasons.setdefault(baseline.rule, {})[baseline.hour] = baseline.means
    return seasons
