"""Made-up labels, and topics in memory that a pipeline can be killed over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream.decisions.deciding import Deciding
from stream.decisions.recovery import Names, Recovery
from stream.errors import PolicyError
from stream.kafka.ledger import Partition, Span, SpanState
from stream.kafka.offsets import OffsetRange
from stream.kafka.packing import Output
from stream.outcomes import Alert, Decision, Review, decode_alert, decode_decision
from stream.policy import Policy, load_policy
from stream.records import Label, ModelRef, Origin, Post, TaskLabel, encode, label_id, rfc3339

NOON_MS = 1_795_348_800_000  # 2026-11-22T12:00:00Z
RULES = """
name: test
quota: 12
rules:
  - {id: insult, when: toxicity.insult >= 0.5, action: hide, severity: high, reason: harassment-other, quota: 5}
  - {id: chatty, when: 'count(author, "20s") >= 5', action: flag, severity: low, reason: misleading-spam}
  - {id: wave, when: 'distinct_authors(tag, "30s") >= 3', action: limit, severity: low, reason: misleading-spam, mode: shadow}
  - {id: again, when: 'actions(author, "1m") >= 2', action: review, severity: low, reason: misleading-spam}
"""


def label_of(
    number: int,
    *,
    partition: int = 0,
    author: str = "ann",
    text: str = "hello",
    tags: Sequence[str] = (),
    insult: float = 0.01,
    at_ms: int | None = None,
    post_id: str | None = None,
    retracted: bool = False,
) -> Label:
    """The label of the post at offset `number` of its partition; a second apart by default."""
    origin = Origin(
        topic="posts",
        partition=partition,
        offset=number,
        timestamp_ms=NOON_MS + 1000 * number if at_ms is None else at_ms,
    )
    name = post_id or f"p{partition}-{number}"
    scores = {"toxic": insult, "insult": insult}
    tasks = {
        "language": TaskLabel(label="en", score=0.99, scores={"en": 0.99}),
        "toxicity": TaskLabel(
            label="insult" if insult >= 0.5 else "none", score=insult, scores=scores
        ),
    }
    return Label(
        schema="tidegate.label.v1",
        label_id=label_id(name, origin),
        post_id=name,
        labels={} if retracted else tasks,
        models={"toxicity": ModelRef(id="made-up", version="1")},
        labelled_at=rfc3339(origin.timestamp_ms),
        posted_at=rfc3339(origin.timestamp_ms),
        origin=origin,
        post=Post(id=name, op="delete", author=author)
        if retracted
        else Post(id=name, text=text, author=author, tags=list(tags)),
        retracted=retracted,
    )


@dataclass(frozen=True)
class Kept:
    """A record in a topic of memory."""

    offset: int
    value: bytes
    key: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


class Topics:
    """Topics in memory, which outlive whatever reads and writes them."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Kept]] = defaultdict(list)
        self.clock_ms = NOON_MS

    def put(self, topic: str, partition: int, value: bytes | None, key: bytes | None = None) -> int:
        place = self.records[topic, partition]
        assert value is not None
        place.append(Kept(len(place), value, key, self.clock_ms))
        return len(place) - 1

    def put_label(self, label: Label) -> int:
        assert label.origin is not None
        return self.put("labels", label.origin.partition, encode(label))

    def put_review(self, review: Review, partition: int = 0) -> int:
        return self.put("reviews", partition, encode(review))

    def deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.put(output.topic, output.partition, output.value, output.key)

    def ranges(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], OffsetRange]:
        return {place: OffsetRange(0, len(self.records[place])) for place in places}

    def partitions(self, topic: str) -> dict[int, OffsetRange]:
        there = [number for name, number in self.records if name == topic]
        return {number: self.ranges([(topic, number)])[topic, number] for number in sorted(there)}

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[Kept]:
        yield from self.records[topic, partition][start:end]

    @contextmanager
    def recovery(self) -> Iterator[Recovery]:
        yield Recovery(self, Names.of(""))

    def span(self, topic: str, partition: int, start: int, end: int) -> Span:
        records = self.records[topic, partition][start:end]
        span = Span(Partition(topic, partition), records, 0, end)
        span.state = SpanState.TAKEN
        return span

    @property
    def decisions(self) -> list[Decision]:
        """All that were written, partition by partition."""
        return [
            decode_decision(kept.value)
            for (topic, _), place in sorted(self.records.items())
            if topic == "decisions"
            for kept in place
        ]

    @property
    def last_decisions(self) -> dict[str, Decision]:
        """By post, the last one: what a reader that upserts has."""
        return {decision.post_id: decision for decision in self.decisions}

    @property
    def alerts(self) -> list[Alert]:
        return [decode_alert(kept.value) for kept in self.records["alerts", 0]]


class GivenPolicy:
    """A policy that changes when a test says so."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.error: PolicyError | None = None
        self._changed = False

    def change(self, policy: Policy) -> None:
        self.policy, self._changed = policy, True

    def poll(self) -> bool:
        changed, self._changed = self._changed, False
        return changed


def policy_of(folder: Path, text: str) -> Policy:
    """A policy from YAML."""
    path = folder / "policy.yaml"
    path.write_text(text, "utf-8")
    return load_policy(path)


def deciding_over(topics: Topics, policy: Policy | GivenPolicy) -> Deciding:
    """A pipeline that has just been started."""
    watch = policy if isinstance(policy, GivenPolicy) else GivenPolicy(policy)
    return Deciding(watch, "", topics.recovery, now_ms=lambda: topics.clock_ms)


def run(deciding: Deciding, topics: Topics, start: int, end: int, partition: int = 0) -> None:
    """A batch of labels, delivered."""
    span = topics.span("labels", partition, start, end)
    topics.deliver(deciding.run([span]).outputs)


def fill(topics: Topics, count: int, partitions: int = 1) -> None:
    """Labels of three authors, some with a tag, some insults."""
    for number in range(count):
        for partition in range(partitions):
            topics.put_label(
                label_of(
                    number,
                    partition=partition,
                    author=f"{partition}-{number % 3}",
                    tags=["x"] if number % 4 == 0 else [],
                    insult=0.9 if number % 7 == 3 else 0.1,
                )
            )
