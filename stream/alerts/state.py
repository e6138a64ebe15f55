"""Everything an evaluator knows besides the metrics themselves, as one value that can be stored.

Invariant: an evaluator with this state, the metrics of the rules' spans before it, and the
metrics after it says what the evaluator would have said that was never stopped.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from stream.alerts.change import Hours, Learnt
from stream.alerts.discovery import Family
from stream.alerts.new_term import Known
from stream.alerts.silence import Heard


class Standing(msgspec.Struct):
    """How one rule stands with one group.

    `alert_id` is that of the open episode, `shared` says that the group is in one that speaks
    for several. `seen` is how bad it was at its worst.
    """

    breach_since: int | None = None
    clear_since: int | None = None
    alert_id: str | None = None
    shared: bool = False
    started: int = 0
    seen: float | None = None
    resolved_at: int | None = None

    @property
    def active(self) -> bool:
        """Whether an episode is open."""
        return self.alert_id is not None or self.shared

    def idle(self, cool_down_s: int, tick: int) -> bool:
        """Whether nothing would be lost if this were forgotten."""
        cooling = self.resolved_at is not None and tick < self.resolved_at + cool_down_s
        return not self.active and self.breach_since is None and not cooling


class State(msgspec.Struct):
    """What is stored.

    `tick` is the last one evaluated, `began` the first ever; `quiet_until`: until then metrics
    teach and nothing fires. `observed` is the newest value of each pipeline measure and part,
    with its time, and `looked` the last tick at which the pipeline's rules were evaluated.
    """

    tick: int | None = None
    began: int = 0
    newest: int = 0
    quiet_until: int = 0
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    standings: dict[tuple[str, str], Standing] = msgspec.field(default_factory=dict)
    family: Family = msgspec.field(default_factory=Family)
    learnt: dict[str, Learnt] = msgspec.field(default_factory=dict)
    heard: dict[str, dict[str, Heard]] = msgspec.field(default_factory=dict)
    known: dict[str, dict[str, Known]] = msgspec.field(default_factory=dict)
    observed: dict[str, dict[str, tuple[int, float]]] = msgspec.field(default_factory=dict)
    looked: int | None = None


#: Means by hour and series of each change rule; stored hour by hour, apart from the state.
Seasons = dict[str, Hours]

_FORMAT: Final = b"tidegate.alert-state.v1\n"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


def stored(state: State) -> bytes:
    """The state in bytes."""
    return _FORMAT + zlib.compress(_encode(state), 1)


def restored(data: bytes) -> State | None:
    """The state in these bytes; None where they are of another version of the program."""
    if not data.startswith(_FORMAT):
        return None
    try:
        return _decode(zlib.decompress(data[len(_FORMAT) :]))
    except (zlib.error, msgspec.DecodeError):
        return None
