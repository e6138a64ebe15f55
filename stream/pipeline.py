"""From the records of a batch to the records that go out: pure, and run in a worker's threads.

Invariant: every input record yields exactly one output, a label, a retraction or a dead letter,
and one bad record changes nothing for its neighbours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from models.errors import ModelRuntimeError
from models.scores import Scorer, TextScores
from stream.errors import PostError
from stream.kafka.ledger import Partition, Record, Span
from stream.kafka.packing import Output
from stream.labelling import LabelEncoder, label_of, model_refs, retraction_of
from stream.post_decoding import RawPost, read_post
from stream.records import DeadLetterReason, Origin, Post, dead_letter_of, encode

#: Headers that a replay sets: where the post stood (file:line), and how often it was tried.
INPUT_HEADER = "tidegate-input"
ATTEMPT_HEADER = "tidegate-attempt"
#: A longer key is not kept in a dead letter: what it is about must fit into a broker's message.
_MAX_KEY_BYTES = 64 * 1024
_MAX_INPUT_CHARS = 1024
#: Scored when a post cannot be: if even this fails, the model is broken and not the post.
_PROBE = "hello"


# A struct: making one costs a third of what a dataclass costs, and there is one per post.
class _Item(msgspec.Struct, gc=False):
    """One input record on its way."""

    record: Record
    partition: Partition
    post: Post | RawPost | None = None
    error: PostError | None = None
    scores: TextScores | None = None

    @property
    def origin(self) -> Origin:
        return Origin(
            topic=self.partition.topic,
            partition=self.partition.partition,
            offset=self.record.offset,
            timestamp_ms=self.record.timestamp,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    outputs: list[Output]
    labels: int
    dead_letters: int


class Pipeline:
    """decode, prepare, infer, finish, encode: one call per batch, from several threads.

    The scorer's stages take one caller each at a time (`infer` as many as the scorer has lanes), so
    that while one batch is in the session another is being tokenised and a third encoded.

    Args:
        scorer: what scores texts.
        labels: full name of the labels' topic.
        dead_letters: full name of the dead letters' topic.
        now_ms: the clock.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        labels: str,
        dead_letters: str,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._scorer = scorer
        self._refs = model_refs(scorer.models)
        self._encoder = LabelEncoder(self._refs)
        self._labels = labels
        self._dead_letters = dead_letters
        self._now_ms = now_ms
        self._prepare_turn = threading.Lock()
        self._infer_turn = threading.Semaphore(scorer.lanes)
        self._finish_turn = threading.Lock()

    def run(self, spans: Sequence[Span]) -> Outcome:
        """The outputs of a batch's spans, in their order; spans dropped meanwhile have none.

        Raises:
            ModelRuntimeError: the model is broken, not a post.
        """
        wanted: list[_Item] = []
        parts = [(span.partition, _decoded(span, wanted)) for span in spans if not span.dropped]
        self._score(wanted)
        now_ms = self._now_ms()
        outputs: list[Output] = []
        dead = 0
        for partition, items in parts:
            dead += self._write(partition, items, now_ms, outputs)
        return Outcome(outputs, len(outputs) - dead, dead)

    def _write(
        self, partition: Partition, items: list[_Item], now_ms: int, outputs: list[Output]
    ) -> int:
        """Append an output for every item; returns how many are dead letters."""
        topic, number = self._labels, partition.partition
        write = self._encoder.writer(partition.topic, number, now_ms)
        dead = 0
        for item in items:
            if item.error is None:
                post, record, scores = item.post, item.record, item.scores
                try:
                    if type(post) is RawPost:
                        value = write(post, record.value, scores, record.offset, record.timestamp)
                    else:
                        value = self._label(item, now_ms)
                    outputs.append(Output(topic, number, record.key, value, item))
                    continue
                except Exception as exc:  # noqa: BLE001 - one post, whatever is wrong with it
                    item.error = PostError(
                        DeadLetterReason.SCORING_FAILED,
                        f"its label cannot be written: {_shown(exc)}",
                    )
            outputs.append(self._dead_letter(item, item.error, now_ms))
            dead += 1
        return dead

    # -- scoring

    def _score(self, items: list[_Item]) -> None:
        """Score the items; one that cannot be scored gets an error, its neighbours get scores."""
        if not items:
            return
        try:
            self._score_once(items)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whatever a scorer or its runtime raises
            self._score_apart(items)

    def _score_once(self, items: list[_Item]) -> None:
        texts = [item.post.text or "" for item in items if item.post is not None]
        with self._prepare_turn:
            prepared = self._scorer.prepare(texts)
        with self._infer_turn:
            logits = self._scorer.infer(prepared)
        with self._finish_turn:
            scores = self._scorer.finish(prepared, logits)
        if len(scores) != len(items):
            raise ModelRuntimeError(f"{len(scores)} answers for {len(items)} texts")
        for item, answer in zip(items, scores, strict=True):
            item.scores = answer

    def _score_apart(self, items: list[_Item]) -> None:
        """Try again, then by halves, until what fails is one post."""
        try:
            self._score_once(items)
        except MemoryError:
            raise
        except Exception as exc:  # noqa: BLE001 - as above
            if len(items) > 1:
                middle = len(items) // 2
                self._score_apart(items[:middle])
                self._score_apart(items[middle:])
                return
            self._probe(exc)
            items[0].error = PostError(
                DeadLetterReason.SCORING_FAILED, f"the models cannot score it: {_shown(exc)}"
            )

    def _probe(self, cause: Exception) -> None:
        try:
            with self._prepare_turn, self._infer_turn, self._finish_turn:
                self._scorer.score([_PROBE])
        except Exception as exc:
            raise ModelRuntimeError(
                f"the models fail on every post: {_shown(cause)}",
                hint="`tidegate doctor` checks the models; no post was lost",
            ) from exc

    # -- output

    def _label(self, item: _Item, now_ms: int) -> bytes:
        post, origin, scores = item.post, item.origin, item.scores
        assert isinstance(post, Post)
        if scores is None:
            label = retraction_of(post, self._refs, labelled_at_ms=now_ms, origin=origin)
        else:
            label = label_of(post, scores, self._refs, labelled_at_ms=now_ms, origin=origin)
        return encode(label)

    def instead_of(self, output: Output, limit: int) -> Output:
        """The dead letter to send instead of a label that is larger than its topic takes."""
        error = PostError(
            DeadLetterReason.TOO_LARGE, f"its label is larger than the topic takes ({limit} bytes)"
        )
        return self._dead_letter(output.source, error, self._now_ms())

    def _dead_letter(self, item: _Item, error: PostError, now_ms: int) -> Output:
        record, origin = item.record, item.origin
        headers = dict(record.headers)
        key = record.key if len(record.key or b"") <= _MAX_KEY_BYTES else None
        letter = dead_letter_of(
            error,
            record.value,
            at_ms=now_ms,
            origin=origin,
            key=key,
            source_input=_text(headers.get(INPUT_HEADER)),
            post_id=None if item.post is None else item.post.id,
            attempt=_attempt(headers.get(ATTEMPT_HEADER)),
        )
        return Output(self._dead_letters, origin.partition, key, encode(letter))


def _decoded(span: Span, wanted: list[_Item]) -> list[_Item]:
    """The item of every record; those that have a text to score are put on `wanted`, too."""
    items = []
    partition = span.partition
    for record in span.records:
        item = _Item(record, partition)
        items.append(item)
        try:
            post = item.post = read_post(record.value)
        except PostError as exc:
            item.error = exc
            continue
        if post.op != "delete":
            wanted.append(item)
    return items


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("utf-8", "replace")[:_MAX_INPUT_CHARS]


def _attempt(header: bytes | None) -> int:
    try:
        return max(1, int(header or b"1"))
    except ValueError:
        return 1


def _shown(exc: BaseException) -> str:
    text = str(exc) or type(exc).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
