"""How long a backtest of a million labels takes on two cores: `python bench/backtest.py`.

Labels of the shipped feed's posts with scores drawn like a busy evening's (one in ten is toxic),
20,000 authors, a tag on every third post; judged by the starter pack against a stricter copy of it,
windows included, as `tidegate policy backtest` does, the command itself. The target is 240 s for
1,000,000 labels. Prints wall time, labels a second and the largest process's memory.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stream.demo.feed import shipped_source
from stream.policy.load import policy_path
from stream.records import Label, ModelRef, Origin, Post, TaskLabel, encode, label_id, rfc3339
from stream.sources.files import PostLine

TARGET_S = 240.0
TARGET_LABELS = 1_000_000
NOON_MS = 1_795_348_800_000
TOXIC = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack")


def texts() -> list[str]:
    """The feed's texts."""
    lines = shipped_source()
    return [line.post.text for line in lines if isinstance(line, PostLine) and line.post.text]


def write_labels(path: Path, count: int, feed: list[str]) -> None:
    """A file of labels, the same in every run."""
    dice = random.Random(6)
    models = {
        task: ModelRef(id="bench", version="1") for task in ("language", "sentiment", "toxicity")
    }
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number in range(count):
            toxic = dice.random() if dice.random() < 0.1 else dice.random() * 0.1
            origin = Origin(
                topic="posts",
                partition=number % 4,
                offset=number // 4,
                timestamp_ms=NOON_MS + 5 * number,
            )
            post = Post(
                id=f"p{number}",
                text=feed[number % len(feed)],
                author=f"a{int(20_000 * dice.random() ** 2)}",
                tags=[f"t{int(50 * dice.random() ** 2)}"] if number % 3 == 0 else [],
            )
            scores = {name: round(toxic * dice.random() ** 0.3, 4) for name in TOXIC}
            top = max(scores, key=scores.__getitem__)
            negative = round(min(0.98, toxic + 0.1 * dice.random()), 4)
            label = Label(
                schema="tidegate.label.v1",
                label_id=label_id(post.id, origin),
                post_id=post.id,
                labels={
                    "language": TaskLabel(label="en", score=0.99, scores={"en": 0.99}),
                    "sentiment": TaskLabel(
                        label="negative" if negative > 0.5 else "neutral",
                        score=max(negative, 1 - negative),
                        scores={
                            "negative": negative,
                            "neutral": round(1 - negative, 4),
                            "positive": 0.0,
                        },
                    ),
                    "toxicity": TaskLabel(
                        label=top if scores[top] >= 0.4 else "none",
                        score=scores[top],
                        scores=scores,
                    ),
                },
                models=models,
                labelled_at=rfc3339(origin.timestamp_ms + 20),
                posted_at=rfc3339(origin.timestamp_ms),
                origin=origin,
                post=post,
            )
            file.write(encode(label) + b"\n")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=TARGET_LABELS)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-backtest-") as folder:
        path = Path(folder) / "labels.jsonl.gz"
        write_labels(path, arguments.labels, texts())
        old = policy_path(None)
        new = Path(folder) / "new.yaml"
        new.write_text(old.read_text("utf-8").replace(">= 0.4 ", ">= 0.3 "), "utf-8")
        command = [sys.executable, "-P", "-m", "stream", "policy", "backtest", "--json"]
        command += ["--policy", str(new), "--against", str(old), "--labels", str(path)]
        command += ["--processes", str(arguments.processes)]
        begun = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own program
        seconds = time.perf_counter() - begun
    result = json.loads(done.stdout)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak_mb, cpu_s = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{result['labels']:,} labels, {arguments.processes} processes: {seconds:.1f} s, "
        f"{result['labels'] / seconds:,.0f} labels/s, {peak_mb:,.0f} MiB in the largest process; "
        f"{result['changed']:,} decisions change; {cpu_s:.1f} s of processor time"
    )
    a_million_s = seconds * TARGET_LABELS / max(1, arguments.labels)
    print(f"1,000,000 labels: {a_million_s:.0f} s, target {TARGET_S:.0f} s")


if __name__ == "__main__":
    main()
