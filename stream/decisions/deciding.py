"""From labels and reviews to decisions: the pipeline of the role `decide`.

Invariant: every label has one policy's decision, under an id that depends on the label alone, in
the partition of the label; a decision that was written is never made again differently because a
worker was killed. One thread at a time, in the order of each partition.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

import msgspec

from stream.decisions.breakers import Breakers
from stream.decisions.failures import Failures
from stream.decisions.history import WindowHistory
from stream.decisions.quotas import quota_that_shadowed
from stream.decisions.recovery import Names, Recovery
from stream.decisions.reviews import (
    Verdicts,
    decision_by_review,
    decision_by_undo,
    place_of,
)
from stream.decisions.versions import Versions
from stream.errors import PolicyError, PostError
from stream.kafka.ledger import Record, Span
from stream.kafka.packing import Output
from stream.logs import get_logger
from stream.outcomes import Decision, Quota, Review, decode_review
from stream.pipeline import Outcome
from stream.policy import NO_HISTORY, Policy, Subject, decision_of
from stream.records import (
    DeadLetterReason,
    Label,
    Origin,
    dead_letter_of,
    decode_label,
    encode,
)
from stream.topics import DEAD_LETTERS

log = get_logger(__name__)

#: How often the counts of other workers are read.
_ELSEWHERE_EVERY_S: Final = 5.0
_MAX_KEY_BYTES: Final = 64 * 1024


class Watch(Protocol):
    """The policy in force; `stream.policy.PolicyWatch` is one."""

    @property
    def policy(self) -> Policy: ...  # noqa: D102
    @property
    def error(self) -> PolicyError | None: ...  # noqa: D102
    def poll(self) -> bool: ...  # noqa: D102


class _Part:
    """A partition that is being decided on."""

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self.verdicts = Verdicts()
        #: Decisions that were written before a kill, on labels that are read again.
        self.decided: dict[int, Decision] = {}
        #: Whether it was read which posts were edited or deleted before: reviews ask for it.
        self.knows_versions = False


class Deciding:
    """The pipeline.

    Args:
        watch: the policy in force.
        prefix: of the topics.
        recovery: opens what reads a partition's past.
        now_ms: the clock.
    """

    def __init__(
        self,
        watch: Watch,
        prefix: str,
        recovery: Callable[[], AbstractContextManager[Recovery]],
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._watch = watch
        self._names = Names.of(prefix)
        self._dead_letters = DEAD_LETTERS.full_name(prefix)
        self._recovery = recovery
        self._now_ms = now_ms
        self._turn = threading.Lock()
        self._parts: dict[int, _Part] = {}
        #: Partitions whose quotas were looked at before their first label came.
        self._glanced: set[int] = set()
        self._versions = Versions()
        self._failures = Failures()
        self._told: str | None = None
        self._elsewhere_at_s = 0.0
        policy = watch.policy
        self._policy = policy
        self._history = WindowHistory(policy.windows)
        self._breakers = Breakers(policy, prefix, now_ms(), self._published, self._counts)

    # -- from the flow

    def run(self, spans: Sequence[Span]) -> Outcome:
        """The decisions on a batch of labels and reviews, and what its quotas trip."""
        with self._turn:
            outputs: list[Output] = []
            done = dead = 0
            outputs += self._look(self._now_ms())
            for span in spans:
                if span.dropped:
                    continue
                by_review = span.partition.topic == self._names.reviews
                self._open(span, outputs)
                for record in span.records:
                    try:
                        if by_review:
                            self._review(span.partition.partition, record, outputs)
                        else:
                            self._label(span.partition.partition, record, outputs)
                        done += 1
                    except PostError as error:
                        outputs.append(self._dead_letter(span, record, error))
                        dead += 1
            outputs += self._breakers.write(self._now_ms())
            return Outcome(outputs, done, dead)

    def _published(self) -> Mapping[str, str]:
        with self._recovery() as recovery:
            return recovery.quota_alerts()

    def _counts(self) -> list[Quota]:
        with self._recovery() as recovery:
            return recovery.quotas()

    def tick(self, assigned: Collection[int], partitions: int) -> list[Output]:
        """What time brings: a changed policy, another day, what other workers have counted.

        Args:
            assigned: the partitions that this worker holds.
            partitions: how many there are.
        """
        with self._turn:
            now_ms = self._now_ms()
            for lost in set(self._parts) - set(assigned):
                del self._parts[lost]
                self._breakers.end(lost)
                self._history.release(lost)
            self._glanced &= set(assigned)
            outputs = self._look(now_ms)
            fresh = set(assigned) - self._glanced - set(self._breakers.partitions)
            others = set(range(partitions)) - set(assigned)
            due = others and time.monotonic() - self._elsewhere_at_s >= _ELSEWHERE_EVERY_S
            if fresh or due:
                with self._recovery() as recovery:
                    for partition in sorted(fresh):
                        # Nothing came of it yet: was something tripped that must be resolved?
                        self._glanced.add(partition)
                        kept = recovery.last_quota(partition)
                        decided = recovery.strong(partition, kept)
                        outputs += self._breakers.glance(partition, kept, decided, now_ms)
                    if fresh:
                        outputs += self._breakers.settle(now_ms)
                    if due:
                        counts = [recovery.last_quota(partition) for partition in sorted(others)]
                        self._breakers.elsewhere([count for count in counts if count is not None])
                        self._elsewhere_at_s = time.monotonic()
            self._failures.say()
            return outputs + self._breakers.write(now_ms)

    def _look(self, now_ms: int) -> list[Output]:
        """Take over a changed policy and a new day."""
        outputs = self._breakers.turn(now_ms)
        if self._watch.poll():
            outputs += self._adopt(self._watch.policy, now_ms)
        error = self._watch.error
        told = None if error is None else str(error)
        if told is not None and told != self._told:
            log.error("policy not reloaded", reason=told, in_force=self._policy.version)
        self._told = told
        return outputs

    def _adopt(self, policy: Policy, now_ms: int) -> list[Output]:
        log.info("policy reloaded", version=policy.version, before=self._policy.version)
        self._policy = policy
        if frozenset(policy.windows) != self._history.windows:
            # Its windows begin in the past: read that again before deciding.
            self._history = WindowHistory(policy.windows)
            self._parts.clear()
        return self._breakers.adopt(policy, now_ms)

    # -- labels

    def _label(self, partition: int, record: Record, outputs: list[Output]) -> None:
        part = self._parts[partition]
        part.next_offset = record.offset + 1
        try:
            label = decode_label(record.value or b"")
        except msgspec.DecodeError as exc:
            raise PostError(DeadLetterReason.WRONG_TYPE, f"not a label: {exc}") from exc
        now_ms = self._now_ms()
        earlier = part.decided.pop(record.offset, None)
        if earlier is not None and earlier.label_id == label.label_id:
            decision = earlier
            self._versions.label(label)
            if self._history.windows and not label.retracted:
                self._history.at(Subject.of_label(label), partition)
        else:
            decision = self._decide(label, partition, record.offset, now_ms)
            outputs.append(self._decision(partition, record.key, decision))
        self._book(decision)
        outputs += self._breakers.count(partition, record.offset, decision)
        standing = part.verdicts.standing_after(label.post_id, decision.decision_id)
        if standing is not None and not self._versions.passed(label.post_id, decision.decision_id):
            # The same text labelled again: the person's word on it stands.
            outputs.append(
                self._decision(partition, record.key, decision_by_review(standing, decision))
            )

    def _decide(self, label: Label, partition: int, offset: int, now_ms: int) -> Decision:
        self._versions.label(label)
        policy = self._policy
        if label.retracted:
            verdict, quota = policy.evaluate(Subject.of_label(label)), None
        else:
            subject = Subject.of_label(label)
            history = self._history.at(subject, partition) if self._history.windows else NO_HISTORY
            verdict = self._breakers.in_force().evaluate(subject, history)
            quota = quota_that_shadowed(policy, verdict, self._breakers.tripped)
            self._failures.count(rule.id for rule in verdict.failed)
        decision = decision_of(label, verdict, policy.version, decided_at_ms=now_ms, quota=quota)
        return msgspec.structs.replace(decision, label_offset=offset)

    def _book(self, decision: Decision) -> None:
        post, origin = decision.post, decision.origin
        if self._history.wants_actions and post is not None and not decision.retracted:
            at_ms = origin.timestamp_ms if origin is not None else self._now_ms()
            self._history.acted(decision.post_id, post.author_id, at_ms, decision.action)

    # -- reviews

    def _review(self, partition: int, record: Record, outputs: list[Output]) -> None:
        try:
            review = decode_review(record.value or b"")
        except msgspec.DecodeError as exc:
            raise PostError(DeadLetterReason.WRONG_TYPE, f"not a review: {exc}") from exc
        part = self._parts[partition]
        verdicts = part.verdicts
        verdicts.read(review)
        if not part.knows_versions:
            with self._recovery() as recovery:
                self._versions.decided(recovery.newest(partition))
            part.knows_versions = True
        if self._versions.is_late(review, verdicts):
            return
        standing = verdicts.standing(review.post_id)
        if review.verdict == "decide" and standing is not None:
            if standing.review_id == review.review_id:
                decision = decision_by_review(review, self._basis(verdicts, review))
                outputs.append(self._decision(partition, record.key, decision))
        elif review.verdict == "undo":
            basis = self._basis(verdicts, review)
            if standing is None:
                decision = decision_by_undo(review, basis, self._now_ms())
            else:
                decision = msgspec.structs.replace(
                    decision_by_review(standing, basis),
                    decision_id=f"review:{review.review_id}",
                    decided_at=review.at,
                )
            outputs.append(self._decision(partition, record.key, decision))

    def _basis(self, verdicts: Verdicts, review: Review) -> Decision | None:
        """The policy's decision on the post that a review is about."""
        for wanted in (verdicts.basis(review.post_id), review.decision_id):
            place = None if wanted is None else place_of(wanted)
            if wanted is not None and place is not None:
                with self._recovery() as recovery:
                    return recovery.decision_on(place, wanted)
        return None

    # -- beginning with a partition

    def _open(self, span: Span, outputs: list[Output]) -> None:
        """Know a partition's past before its first label, or after somebody else had it."""
        partition, first = span.partition.partition, span.records[0].offset
        part = self._parts.get(partition)
        if span.partition.topic == self._names.reviews:
            if part is None:
                self._open_for_reviews(partition)
            return
        if part is not None and part.next_offset == first:
            return
        begun, now_ms = time.monotonic(), self._now_ms()
        part = self._parts[partition] = _Part(first)
        with self._recovery() as recovery:
            past = recovery.past(partition, first, now_ms)
            part.decided = {at: d for at, d in past.decided.items() if at >= first}
            self._versions.decided(part.decided.values())
            for review in past.reviews:
                part.verdicts.read(review)
            outputs += self._breakers.begin(partition, first, past, now_ms)
            labels = self._read_history(
                recovery, partition, first, _time_of(span.records[0], now_ms)
            )
        log.info(
            "past read",
            partition=partition,
            offset=first,
            labels=labels,
            decided_before=len(part.decided),
            reviews=len(part.verdicts),
            seconds=round(time.monotonic() - begun, 2),
        )

    def _read_history(self, recovery: Recovery, partition: int, first: int, at_ms: int) -> int:
        """Fill the windows that end at a label; how many labels that took."""
        labels, history = 0, self._history
        if history.longest_ms:
            for label in recovery.labels(partition, first, at_ms - history.longest_ms):
                labels += 1
                self._versions.label(label)
                if not label.retracted:
                    history.at(Subject.of_label(label), partition)
        if history.wants_actions:
            for decision in recovery.acted(partition, first, at_ms - history.actions_ms):
                self._book(decision)
        return labels

    def _open_for_reviews(self, partition: int) -> None:
        """A review came before any label: its partition is opened again when one comes."""
        part = self._parts[partition] = _Part(-1)
        with self._recovery() as recovery:
            for review in recovery.past(partition, 0, self._now_ms()).reviews:
                part.verdicts.read(review)

    # -- outputs

    def _decision(self, partition: int, key: bytes | None, decision: Decision) -> Output:
        if key is None and decision.post is not None:
            key = decision.post.key
        return Output(self._names.decisions, partition, key, encode(decision))

    def _dead_letter(self, span: Span, record: Record, error: PostError) -> Output:
        topic, partition = span.partition
        origin = Origin(
            topic=topic,
            partition=partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
        key = record.key if len(record.key or b"") <= _MAX_KEY_BYTES else None
        letter = dead_letter_of(error, record.value, at_ms=self._now_ms(), origin=origin, key=key)
        return Output(self._dead_letters, partition, key, encode(letter))


def _time_of(record: Record, now_ms: int) -> int:
    try:
        return Subject.of_label(decode_label(record.value or b"")).at_ms
    except msgspec.DecodeError:
        return now_ms
