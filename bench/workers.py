"""How throughput grows with workers, and whether their memory stays flat: `python bench/workers.py`.

    python bench/workers.py --kafka HOST:PORT --posts FILE [--events 400000] [--workers 1 2] [--rounds 3]

Real `tidegate worker` processes with the null model share 8 partitions of a topic that is full
before they start. The rate is that of the labels' topic between a fifth and four fifths of the
posts, so that starting, joining and the last crumbs do not count; the share of each worker is of
the records it committed. Memory is the resident set of each worker and of the process that scores
for it, at an eighth and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from stream.bench.load import bench_topics, fill, read_posts
from stream.bench.processes import environment_of
from stream.kafka.ledger import Partition
from stream.kafka.offsets import partition_ends
from stream.settings import Settings
from stream.topics import LABELS

PARTITIONS = 8


def run(bootstrap: str, posts: Any, events: int, workers: int, timeout_s: float) -> dict[str, Any]:
    """One run of so many workers."""
    overrides = {
        "kafka.partitions": PARTITIONS,
        "worker.batch_posts": 2048,
        "models.preset": "null",
    }
    with bench_topics(bootstrap, overrides) as settings:
        fill(settings, posts, events)
        environment = environment_of(settings)
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "stream", "worker", "--role", "label"],
                cwd=Path(__file__).resolve().parent.parent,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(workers)
        ]
        try:
            seen = _watch(settings, processes, events, timeout_s)
        finally:
            for process in processes:
                process.terminate()
            logs = [process.communicate(timeout=60)[0] for process in processes]
    return seen | {"shares": [round(_labelled(log) / events, 3) for log in logs]}


def _watch(
    settings: Settings, processes: list[subprocess.Popen[str]], events: int, timeout_s: float
) -> dict[str, Any]:
    topic = LABELS.full_name(settings.kafka.topic_prefix)
    partitions = [Partition(topic, number) for number in range(PARTITIONS)]
    begun = time.perf_counter()
    times: list[tuple[float, int]] = []
    early: list[int] | None = None
    while not times or times[-1][1] < events:
        if time.perf_counter() - begun > timeout_s:
            raise SystemExit(f"only {times[-1][1] if times else 0} of {events} labels came")
        time.sleep(0.2)
        done = sum(partition_ends(settings.kafka, partitions).values())
        times.append((time.perf_counter(), done))
        if early is None and done >= events / 8:
            early = _memory(processes)
    begin = next(moment for moment in times if moment[1] >= events * 0.2)
    end = next(moment for moment in times if moment[1] >= events * 0.8)
    return {
        "posts_per_s": (end[1] - begin[1]) / max(1e-9, end[0] - begin[0]),
        "memory_mb_at_an_eighth": [round(size / 1e6, 1) for size in early or []],
        "memory_mb_at_the_end": [round(size / 1e6, 1) for size in _memory(processes)],
    }


def _memory(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Of each worker and, behind it, of the process that scores for it."""
    families = [psutil.Process(process.pid) for process in processes]
    return [p.memory_info().rss for one in families for p in (one, *one.children(recursive=True))]


def _labelled(log: str) -> int:
    """What the worker's last line says that it labelled."""
    for line in reversed(log.splitlines()):
        if line.startswith("{") and (said := json.loads(line)).get("event") == "stopped":
            return int(said["labels"])
    raise SystemExit(f"a worker did not stop as it should: {log[-2000:]}")


def main() -> None:
    """Run, in turns; print a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", required=True, help="the broker, HOST:PORT")
    parser.add_argument("--posts", help="a file of posts; default: the demo's")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of one run")
    options = parser.parse_args()
    posts = read_posts(options.posts)
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in options.workers}
    for number in range(options.rounds):
        for count, runs in found.items():
            print(f"round {number + 1} of {options.rounds}: {count} workers", file=sys.stderr)
            runs.append(run(options.kafka, posts, options.events, count, options.timeout))
    print(
        json.dumps(
            {
                "posts_per_s": {
                    count: round(median(one["posts_per_s"] for one in runs))
                    for count, runs in found.items()
                },
                "runs": found,
                "events": options.events,
                "cores": os.cpu_count(),
                "machine": platform.processor() or platform.machine(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
