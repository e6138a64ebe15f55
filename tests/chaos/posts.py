"""Posts whose outcome is known beforehand: what a quiet run says of each, without running one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.null import NullScorer
from models.scores import Prepared, TextScores
from stream.labelling import label_of, model_refs
from stream.post_decoding import decode_post

#: A text with this in it makes `PoisonedScorer` fail, as a broken runtime does on one input.
POISON = "(poison)"
#: One record in so many is bad, in turn each of the kinds below.
POISON_EVERY = 97


class PoisonedScorer(NullScorer):
    """The null scorer, slow on request, failing on poison."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        time.sleep(self._delay_s)
        return super().infer(prepared)

    def prepare(self, texts: Sequence[str]) -> Prepared:
        if any(POISON in text for text in texts):
            raise ValueError("a poisoned text")
        return super().prepare(texts)


@dataclass(frozen=True, slots=True)
class Sent:
    """A record to send: `outcome` is `label`, `retracted` or a dead letter's reason."""

    number: int
    key: bytes
    value: bytes
    outcome: str


def records(count: int) -> Iterator[Sent]:
    """`count` records, every kind of poison among them."""
    for number in range(count):
        key = b"author-%d" % (number % 211)
        if number % POISON_EVERY:
            yield Sent(number, key, json.dumps(_post(number)).encode(), "label")
        else:
            yield Sent(number, key, *_bad(number, number // POISON_EVERY))


def _post(number: int) -> dict[str, Any]:
    return {
        "id": f"p{number}",
        "text": f"{chr(97 + number % 26)}{'o' * (number % 40)} post {number}",
    }


def _bad(number: int, kind: int) -> tuple[bytes, str]:
    post = f"p{number}"
    kinds: list[tuple[bytes, str]] = [
        (b"not json at all %d" % number, "not-json"),
        (json.dumps({"id": post}).encode(), "no-text"),
        (json.dumps({"id": post, "text": f"{POISON} {number}"}).encode(), "scoring-failed"),
        (json.dumps({"id": post, "op": "delete"}).encode(), "retracted"),
        (b'{"id": "p%d", "text": "\xff\xfe"}' % number, "not-utf8"),
        (b"[" * 5000 + b"%d" % number, "too-deep"),
        (json.dumps({"id": post, "text": 7}).encode(), "wrong-type"),
    ]
    return kinds[kind % len(kinds)]


def quiet_label(value: bytes) -> dict[str, Any]:
    """The `labels` of a post in a quiet run."""
    post = decode_post(value)
    scorer = NullScorer()
    scores: TextScores = scorer.score([post.text or ""])[0]
    label = label_of(post, scores, model_refs(scorer.models), labelled_at_ms=0)
    built: dict[str, Any] = msgspec.to_builtins(label.labels)
    return built
