"""What a post costs in the worker besides its model and the network, in microseconds.

    python -m bench.pipeline_cost posts.jsonl.gz

Stages of `stream.pipeline` and `stream.kafka.publisher` with the null model, best of five.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord

from models.null import NullScorer
from stream.kafka.ledger import Partition, spans_of
from stream.kafka.publisher import Publisher
from stream.pipeline import Pipeline
from stream.post_decoding import decode_post


def main(path: Path, batch: int = 512) -> None:
    """Print the table."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        values = [line.strip() for line in lines][:20_000]
    at = 1_760_000_000_000
    records = [
        ConsumerRecord("posts", 0, n, at, 0, b"author", value, None, 6, len(value), ())
        for n, value in enumerate(values)
    ]
    spans = spans_of(Partition("posts", 0), records, batch)
    pipeline = Pipeline(NullScorer(), labels="labels", dead_letters="dead-letters")
    producer = SimpleNamespace(create_batch=lambda: BatchBuilder(512 * 1024, 0))
    publisher = Publisher(lambda: producer)
    scorer = NullScorer()
    texts = [decode_post(value).text or "" for value in values]
    outputs = [output for span in spans for output in pipeline.run([span]).outputs]
    stages: dict[str, Callable[[], Any]] = {
        "cut into spans": lambda: spans_of(Partition("posts", 0), records, batch),
        "decode": lambda: [decode_post(value) for value in values],
        "null model": lambda: scorer.score(texts),
        "pipeline, all of it": lambda: [pipeline.run([span]) for span in spans],
        "pack for the wire": lambda: publisher.pack(outputs, at),
    }
    for name, stage in stages.items():
        best = min(_seconds(stage) for _ in range(5))
        print(f"{name:22} {best / len(values) * 1e6:7.2f} us")


def _seconds(action: Callable[[], Any]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


if __name__ == "__main__":
    main(Path(sys.argv[1]))
