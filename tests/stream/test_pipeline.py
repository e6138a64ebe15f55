from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import ModelRuntimeError
from models.null import NullScorer
from models.scores import Prepared
from stream.kafka.ledger import Partition, Span, SpanState, spans_of
from stream.kafka.packing import Output
from stream.pipeline import Pipeline
from stream.records import decode_dead_letter, decode_label
from tests.chaos.posts import PoisonedScorer, records

LABELS, DEAD = "labels", "dead-letters"


@dataclass(frozen=True)
class _Record:
    offset: int
    value: bytes | None
    key: bytes | None = b"author"
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 1_760_000_000_000


def _span(*values: bytes | None, partition: int = 2, **fields: Any) -> Span:
    made = [_Record(10 + n, value, **fields) for n, value in enumerate(values)]
    (span,) = spans_of(Partition("posts", partition), made, 10_000)
    return span


def _post(number: int = 1, **fields: Any) -> bytes:
    return json.dumps({"id": f"p{number}", "text": "hello", **fields}).encode()


def _pipeline(scorer: Any = None) -> Pipeline:
    return Pipeline(
        scorer or NullScorer(), labels=LABELS, dead_letters=DEAD, now_ms=lambda: 1_760_000_000_500
    )


def _only(outputs: Sequence[Output]) -> Output:
    (output,) = outputs
    return output


def test_a_post_becomes_a_label_on_its_partition_with_its_key_and_place() -> None:
    output = _only(_pipeline().run([_span(_post())]).outputs)
    assert (output.topic, output.partition, output.key) == (LABELS, 2, b"author")
    label = decode_label(output.value or b"")
    assert label.post_id == "p1"
    assert label.label_id == "p1@posts/2/10"
    assert set(label.labels) == {"language", "sentiment", "toxicity"}
    assert label.posted_at == "2025-10-09T08:53:20.000Z"
    assert label.labelled_at == "2025-10-09T08:53:20.500Z"


def test_a_delete_retracts_and_needs_no_model() -> None:
    class Unused(NullScorer):
        def prepare(self, texts: Sequence[str]) -> Prepared:
            raise AssertionError(texts)

    output = _only(_pipeline(Unused()).run([_span(_post(op="delete"))]).outputs)
    label = decode_label(output.value or b"")
    assert label.retracted
    assert label.labels == {}


def test_a_record_that_is_no_post_becomes_a_dead_letter_with_its_bytes_and_place() -> None:
    span = _span(
        b"\xff nothing", headers=(("tidegate-input", b"a.jsonl:7"), ("tidegate-attempt", b"3"))
    )
    outcome = _pipeline().run([span])
    output = _only(outcome.outputs)
    assert (output.topic, output.partition, output.key) == (DEAD, 2, b"author")
    letter = decode_dead_letter(output.value or b"")
    assert letter.reason == "not-utf8"
    assert letter.original == b"\xff nothing"
    assert letter.input == "a.jsonl:7"
    assert letter.attempt == 3
    assert letter.origin is not None
    assert (letter.origin.partition, letter.origin.offset) == (2, 10)
    assert (outcome.labels, outcome.dead_letters) == (0, 1)


@pytest.mark.parametrize("header", [b"", b"x", b"-2"])
def test_a_wrong_attempt_header_counts_as_the_first_attempt(header: bytes) -> None:
    span = _span(b"[]", headers=(("tidegate-attempt", header),))
    assert decode_dead_letter(_only(_pipeline().run([span]).outputs).value or b"").attempt == 1


def test_one_post_that_cannot_be_scored_is_dead_lettered_alone() -> None:
    values = [r.value for r in records(400)]
    wanted = [r.outcome for r in records(400)]
    outcome = _pipeline(PoisonedScorer()).run([_span(*values)])
    found = []
    for output in outcome.outputs:
        if output.topic == DEAD:
            found.append(decode_dead_letter(output.value or b"").reason)
        else:
            found.append("retracted" if decode_label(output.value or b"").retracted else "label")
    assert found == wanted
    assert "scoring-failed" in found


def test_a_failure_that_passes_costs_no_post() -> None:
    class Hiccup(NullScorer):
        failures = 1

        def infer(self, prepared: Prepared) -> NDArray[np.float32]:
            if self.failures:
                self.failures -= 1
                raise ModelRuntimeError("out of memory, for a moment")
            return super().infer(prepared)

    outcome = _pipeline(Hiccup()).run([_span(_post(1), _post(2))])
    assert (outcome.labels, outcome.dead_letters) == (2, 0)


def test_a_model_that_fails_on_everything_ends_the_worker_instead_of_emptying_the_topic() -> None:
    class Broken(NullScorer):
        def infer(self, prepared: Prepared) -> NDArray[np.float32]:
            raise RuntimeError("no device", prepared.count)

    with pytest.raises(ModelRuntimeError, match=r"fail on every post: .*no device"):
        _pipeline(Broken()).run([_span(_post(1), _post(2))])


def test_running_out_of_memory_is_nobodys_fault() -> None:
    class Full(NullScorer):
        def prepare(self, texts: Sequence[str]) -> Prepared:
            raise MemoryError(len(texts))

    with pytest.raises(MemoryError):
        _pipeline(Full()).run([_span(_post())])


def test_a_label_that_cannot_be_written_is_a_dead_letter() -> None:
    """JSON allows numbers that the encoder refuses."""
    value = b'{"id": "p1", "text": "x", "meta": {"n": 123456789012345678901234567890}}'
    outcome = _pipeline().run([_span(_post(0), value)])
    assert outcome.labels + outcome.dead_letters == 2
    assert outcome.labels >= 1


def test_a_label_too_large_for_its_topic_becomes_a_dead_letter() -> None:
    pipeline = _pipeline()
    output = _only(pipeline.run([_span(_post(meta={"x": "y" * 500_000}))]).outputs)
    smaller = pipeline.instead_of(output, 400_000)
    letter = decode_dead_letter(smaller.value or b"")
    assert (smaller.topic, letter.reason, letter.post_id) == (DEAD, "too-large", "p1")
    assert len(smaller.value or b"") < 400_000


def test_a_huge_key_does_not_make_the_dead_letter_huge() -> None:
    output = _only(_pipeline().run([_span(b"[]", key=b"k" * 900_000)]).outputs)
    assert output.key is None
    assert len(output.value or b"") < 10_000


def test_a_span_that_was_dropped_meanwhile_is_not_worked_on() -> None:
    dropped, kept = _span(_post(1), partition=0), _span(_post(2), partition=1)
    dropped.state = SpanState.DROPPED
    outcome = _pipeline().run([dropped, kept])
    assert [o.partition for o in outcome.outputs] == [1]


def test_stages_overlap_and_each_has_one_caller() -> None:
    class Watched(NullScorer):
        def __init__(self) -> None:
            self.inside = {"prepare": 0, "infer": 0}
            self.most_together = 0
            self.lock = threading.Lock()
            self.both = threading.Event()

        def _visit(self, stage: str) -> None:
            with self.lock:
                self.inside[stage] += 1
                assert self.inside[stage] == 1
                self.most_together = max(self.most_together, sum(self.inside.values()))
                if self.most_together == 2:
                    self.both.set()
            if stage == "infer":
                # Until another batch is being prepared; the last one has nobody to wait for.
                self.both.wait(1.0)
            with self.lock:
                self.inside[stage] -= 1

        def prepare(self, texts: Sequence[str]) -> Prepared:
            time.sleep(0.001)
            self._visit("prepare")
            return super().prepare(texts)

        def infer(self, prepared: Prepared) -> NDArray[np.float32]:
            self._visit("infer")
            return super().infer(prepared)

    scorer = Watched()
    pipeline = _pipeline(scorer)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pipeline.run, [[_span(_post(n))] for n in range(8)]))
    assert scorer.most_together == 2
