"""The account at the end of a trial: what became of every record that was sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from stream.records import decode_dead_letter, decode_label
from stream.settings import KafkaSettings
from stream.topics import DEAD_LETTERS, LABELS, POSTS
from tests.chaos.posts import Sent, quiet_label
from tests.chaos.traffic import read_all


@dataclass(slots=True)
class Account:
    """`lost` and `wrong` must be empty; duplicates are allowed and counted."""

    sent: int
    labelled: int = 0
    retracted: int = 0
    dead_lettered: int = 0
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Every record has exactly the outcome of a quiet run, at least once."""
        accounted = self.labelled + self.retracted + self.dead_lettered
        return not self.lost and not self.wrong and accounted == self.sent

    def as_dict(self) -> dict[str, Any]:
        """For printing: the first few of what is wrong, and how many."""
        shown = asdict(self)
        for name in ("lost", "wrong"):
            shown[name] = {"count": len(shown[name]), "first": shown[name][:5]}
        return {**shown, "complete": self.complete}


async def account(kafka: KafkaSettings, sent: Iterable[Sent]) -> Account:
    """Read the three topics and compare."""
    records = list(sent)
    result = Account(sent=len(records))
    wanted = {record.value: record for record in records}
    assert len(wanted) == len(records), "every record must have a value of its own"
    inputs = {(r.partition, r.offset): wanted[r.value] for r in await read_all(kafka, POSTS)}
    outcomes: dict[tuple[int, int], list[tuple[str, Any]]] = {}
    for record in await read_all(kafka, LABELS):
        label = decode_label(record.value)
        assert label.origin is not None
        if label.origin.partition != record.partition:
            result.wrong.append(f"{label.label_id}: on partition {record.partition}")
        kind = "retracted" if label.retracted else "label"
        place = (label.origin.partition, label.origin.offset)
        outcomes.setdefault(place, []).append((kind, msgspec.to_builtins(label.labels)))
    for record in await read_all(kafka, DEAD_LETTERS):
        letter = decode_dead_letter(record.value)
        assert letter.origin is not None
        place = (letter.origin.partition, letter.origin.offset)
        outcomes.setdefault(place, []).append((letter.reason, letter.original))
    for place, source in inputs.items():
        _enter(result, place, source, outcomes.get(place, []))
    if len(inputs) != len(records):
        result.lost.append(f"{len(records) - len(inputs)} records are not on the topic")
    return result


def _enter(
    result: Account, place: tuple[int, int], source: Sent, found: list[tuple[str, Any]]
) -> None:
    if not found:
        result.lost.append(f"{source.number} at {place}: {source.outcome}")
        return
    result.duplicates += len(found) - 1
    expected: Any = None
    if source.outcome == "label":
        result.labelled += 1
        expected = quiet_label(source.value)
    elif source.outcome == "retracted":
        result.retracted += 1
        expected = {}
    else:
        result.dead_lettered += 1
        expected = source.value
    for kind, content in found:
        if kind != source.outcome or content != expected:
            result.wrong.append(f"{source.number} at {place}: {kind} instead of {source.outcome}")
