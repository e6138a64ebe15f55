"""Measures the stream: contestants in turns, the real model end to end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from models.null import NULL_PRESET
from stream.bench.contestants import CONTESTANTS, run_worker_app
from stream.bench.load import bench_topics, fill
from stream.bench.processes import environment_of, run_on_fast_loop
from stream.errors import TidegateError

_RUN_TIMEOUT_S: Final = 600.0
#: Stock Faust is tens of times slower: it gets this share of the posts.
_STOCK_SHARE: Final = 20
_STOCK_LEAST: Final = 5_000
Report = Callable[[str], None]
Posts = Sequence[tuple[bytes, bytes]]


class StreamBench(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second with a null model, medians; ratios of the worker to the others.

    `one_process` is the worker that scores in its own threads (`worker.scoring=threads`);
    `stock_faust` the agent of Faust's guide, with its models; `raw_faust` the same loop around our
    own decoder and encoder.
    """

    worker: float
    one_process: float
    aiokafka: float
    stock_faust: float
    raw_faust: float
    ratio_aiokafka: float
    ratio_stock: float
    ratio_raw: float
    events: int
    rounds: int
    cpu_us_per_post: dict[str, float]
    broker: str


class EndToEndBench(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second with the real model: topic to confirmed label, and scoring alone."""

    e2e: float
    scoring: float
    ratio: float
    events: int
    rounds: int
    model: str
    broker: str


def bench_stream(
    bootstrap: str, posts: Posts, *, events: int, rounds: int, batch_posts: int, report: Report
) -> StreamBench:
    """Worker, plain aiokafka and Faust's two loops in turns, `rounds` times."""
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpu: dict[str, list[float]] = {name: [] for name in rates}
    for number in range(rounds):
        for name, found in rates.items():
            few = max(_STOCK_LEAST, events // _STOCK_SHARE) if name.endswith("faust") else events
            report(f"round {number + 1} of {rounds}: {name}")
            result = _contest(bootstrap, name, posts, few, batch_posts)
            found.append(result["posts"] / result["seconds"])
            cpu[name].append(result["cpu_s"] / result["posts"] * 1e6)
    middle = {name: median(found) for name, found in rates.items()}
    return StreamBench(
        worker=round(middle["worker"]),
        one_process=round(middle["one_process"]),
        aiokafka=round(middle["aiokafka"]),
        stock_faust=round(middle["stock_faust"]),
        raw_faust=round(middle["raw_faust"]),
        ratio_aiokafka=round(middle["worker"] / middle["aiokafka"], 3),
        ratio_stock=round(middle["worker"] / middle["stock_faust"], 1),
        ratio_raw=round(middle["worker"] / middle["raw_faust"], 1),
        events=events,
        rounds=rounds,
        cpu_us_per_post={name: round(median(found), 1) for name, found in cpu.items()},
        broker=bootstrap,
    )


def _contest(
    bootstrap: str, name: str, posts: Posts, events: int, batch_posts: int
) -> dict[str, float]:
    overrides = {
        "kafka.partitions": 4,
        "worker.batch_posts": batch_posts,
        "models.preset": NULL_PRESET,
    }
    with bench_topics(bootstrap, overrides) as settings:
        fill(settings, posts, events)
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", "stream.bench.contestants", name, str(events)],
                env=environment_of(settings),
                cwd=Path(__file__).resolve().parents[2],
                capture_output=True,
                text=True,
                timeout=_RUN_TIMEOUT_S,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            error = exc.stderr.decode() if isinstance(exc.stderr, bytes) else exc.stderr or ""
            raise TidegateError(f"the run of `{name}` failed: {error[-2000:]}") from exc
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def bench_end_to_end(
    bootstrap: str, posts: Posts, *, events: int, rounds: int, report: Report
) -> EndToEndBench:
    """The worker's app with the real model beside its scoring path alone, in turns."""
    from stream.app import load_scorer
    from stream.post_decoding import decode_post

    texts = [decode_post(value).text or "" for _, value in posts]
    texts = [texts[n % len(texts)] for n in range(events)]
    e2e, scoring = [], []
    model = ""
    for number in range(rounds):
        with bench_topics(bootstrap, {"kafka.partitions": 4}) as settings:
            scorer = load_scorer(settings)
            model = "/".join(sorted({m.version for m in scorer.models.values()}))
            step = settings.worker.batch_posts
            report(f"round {number + 1} of {rounds}: scoring alone")
            begun = time.perf_counter()
            for start in range(0, events, step):
                scorer.score(texts[start : start + step])
            scoring.append(events / (time.perf_counter() - begun))
            report(f"round {number + 1} of {rounds}: end to end")
            fill(settings, posts, events)
            e2e.append(events / run_on_fast_loop(run_worker_app(settings, events)).seconds)
    return EndToEndBench(
        e2e=round(median(e2e), 1),
        scoring=round(median(scoring), 1),
        ratio=round(median(e2e) / median(scoring), 3),
        events=events,
        rounds=rounds,
        model=model,
        broker=bootstrap,
    )
