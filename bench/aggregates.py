"""Labels counted per second by the pure core, on one core: `python bench/aggregates.py`.

Posts of six languages' worth of made-up words, a third of them with tags or links, one in twenty
edited or deleted, at 1,000 posts a second of event time, read in batches of 500 with a checkpoint
for every 5,000. What is timed is all of it: decoding, words, counting, sketches, and the encoded
records of the checkpoints; Kafka is not.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import random
import statistics
import time

from stream.aggregates.book import Book
from stream.records import (
    LABEL_SCHEMA,
    Label,
    ModelRef,
    Origin,
    Post,
    TaskLabel,
    encode,
    rfc3339,
)

_HOUR_MS = 1_780_002_000_000
_POSTS_PER_S = 1000
_BATCH = 500
_CHECKPOINT = 5_000


def main() -> None:
    """Run it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="one round under cProfile")
    args = parser.parse_args()
    values = _feed(args.labels)
    if args.profile:
        profile = cProfile.Profile()
        profile.runcall(_round, values)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    rounds = [_round(values) for _ in range(args.rounds)]
    rates = [len(values) / seconds for seconds, _, _ in rounds]
    result = {
        "labels": len(values),
        "labels_per_s": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "fastest": round(max(rates)),
        "cells_per_checkpoint": rounds[0][1],
        "bytes_per_label": rounds[0][2],
        "python": platform.python_version(),
        "cpu": _cpu(),
        "load": round(os.getloadavg()[0], 1),
    }
    if args.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24} {value}")


def _round(values: list[bytes]) -> tuple[float, int, int]:
    """CPU seconds, cells of a checkpoint, bytes written per label."""
    book = Book("labels", 0)
    cells = written = checkpoints = 0
    begun = time.process_time()
    for at in range(0, len(values), _BATCH):
        book.add(list(enumerate(values[at : at + _BATCH], at)))
        if (at + _BATCH) % _CHECKPOINT == 0 or at + _BATCH >= len(values):
            done = book.checkpoint()
            records = [encode(metric) for metric in done.metrics]
            checkpoints += 1
            cells += len(records)
            written += sum(map(len, records))
            written += sum(len(change.value or b"") for change in (*done.cells, *done.markers))
    return (
        time.process_time() - begun,
        cells // max(1, checkpoints),
        written // max(1, len(values)),
    )


def _feed(count: int) -> list[bytes]:
    chance = random.Random(6)
    syllables = ["ta", "mi", "ro", "ke", "sun", "ol", "ve", "dra", "pi", "gla", "né", "ши", "му"]
    words = ["".join(chance.choices(syllables, k=chance.randrange(1, 5))) for _ in range(20_000)]
    frequency = [1 / (rank + 10) for rank in range(len(words))]
    tags = [f"tag{n}" for n in range(400)]
    tag_frequency = [1 / (rank + 3) for rank in range(len(tags))]
    languages = ["en", "pt", "ja", "de", "es", "ru"]
    models = {task: ModelRef(id="compact", version="1") for task in ("language", "sentiment")}
    values = []
    for place in range(count):
        ms = _HOUR_MS + place * 1000 // _POSTS_PER_S
        post_id = f"did:plc:{place:x}/3l{place:x}"
        op = "create"
        if place > 1000 and place % 20 == 0:
            post_id = f"did:plc:{place - 700:x}/3l{place - 700:x}"
            op = "delete" if place % 40 else "update"
        text = " ".join(chance.choices(words, frequency, k=chance.randrange(4, 30)))
        if chance.random() < 0.2:
            text += f" https://site{chance.randrange(500)}.example/{place}"
        sentiment = chance.choices(["positive", "neutral", "negative"], [3, 5, 2])[0]
        toxicity = chance.choices(["none", "insult", "threat"], [90, 9, 1])[0]
        values.append(
            encode(
                Label(
                    schema=LABEL_SCHEMA,
                    label_id=f"{post_id}@posts/0/{place}",
                    post_id=post_id,
                    labels={}
                    if op == "delete"
                    else {
                        "language": TaskLabel(
                            label=chance.choices(languages, [50, 15, 15, 8, 8, 4])[0],
                            score=0.98,
                            scores={"en": 0.98, "de": 0.01, "nl": 0.003},
                        ),
                        "sentiment": TaskLabel(
                            label=sentiment,
                            score=0.71,
                            scores={"positive": 0.71, "neutral": 0.2, "negative": 0.09},
                        ),
                        "toxicity": TaskLabel(
                            label=toxicity,
                            score=0.12,
                            scores={f"kind{n}": 0.12 for n in range(6)},
                        ),
                    },
                    models=models,
                    labelled_at=rfc3339(ms + 80),
                    posted_at=rfc3339(ms),
                    origin=Origin(topic="posts", partition=0, offset=place, timestamp_ms=ms),
                    post=Post(
                        id=post_id,
                        text=None if op == "delete" else text,
                        op=op,  # type: ignore[arg-type] # one of the three
                        source="jetstream",
                        author=f"did:plc:{chance.randrange(8000):x}",
                        tags=chance.choices(tags, tag_frequency, k=chance.choice([0, 0, 1, 2])),
                    ),
                    retracted=op == "delete",
                )
            )
        )
    return values


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a file of ours
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
