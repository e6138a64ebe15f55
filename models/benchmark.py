"""How fast the scoring path is, and what each part of it costs: for `tidegate bench model`.

All ways are measured on the same posts in alternating runs, because a machine's speed drifts; the
figures are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from models.devices import available_threads
from models.errors import ModelError
from models.manifest import load_manifest
from models.scorer import BATCH_TOKENS, OnnxScorer
from models.session import GraphSession

#: Texts that are prepared, run and finished together, as the worker does it.
CHUNK: Final = 512
RUNS: Final = 5


class ModelBench(msgspec.Struct, frozen=True, kw_only=True):
    """Posts a second. `ratio` is scoring over session: what everything around the graph leaves.

    `fp32` is the session alone with the fp32 graph, `fp32_ratio` session over it.
    """

    model: str
    version: str
    device: str
    threads: int
    batch_tokens: int
    posts: int
    runs: int
    session: float
    with_tokenising: float
    scoring: float
    ratio: float
    fp32: float | None = None
    fp32_ratio: float | None = None


def bench_model(
    texts: Sequence[str],
    *,
    manifest: Path | None = None,
    preset: str = "compact",
    device: str = "auto",
    threads: int = 0,
    batch_tokens: int = BATCH_TOKENS,
    runs: int = RUNS,
    fp32: Path | None = None,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> ModelBench:
    """Measure the scoring path on `texts`.

    Args:
        texts: the posts; a few thousand are enough.
        manifest: default: the bundled one.
        preset: of one model.
        device: as the setting `models.device`.
        threads: of the session; 0: every core.
        batch_tokens: tokens, padding included, of one inference call.
        runs: of each way; the median counts.
        fp32: the same model's fp32 export, to compare with.
        report: told how many runs are done, and of how many.

    Raises:
        ModelError: the model cannot be loaded or run, or there are no texts.
    """
    if not texts:
        raise ModelError("no posts to measure with", hint="give a file with `--posts`")
    found = load_manifest(manifest)
    scorer = OnnxScorer(found, preset, device=device, threads=threads, batch_tokens=batch_tokens)
    (model, *_) = found.preset(preset).values()
    exact = GraphSession(fp32, device="cpu", runs_on=["cpu"], threads=threads) if fp32 else None
    middle = _medians(_ways(scorer, exact, texts), len(texts), runs, report)
    return ModelBench(
        model=model.id,
        version=model.version,
        device=scorer.device,
        threads=threads or available_threads(),
        batch_tokens=scorer.batch_tokens,
        posts=len(texts),
        runs=runs,
        session=middle["session"],
        with_tokenising=middle["with_tokenising"],
        scoring=middle["scoring"],
        ratio=round(middle["scoring"] / middle["session"], 3),
        fp32=middle.get("fp32"),
        fp32_ratio=round(middle["session"] / middle["fp32"], 2) if "fp32" in middle else None,
    )


def _ways(
    scorer: OnnxScorer, exact: GraphSession | None, texts: Sequence[str]
) -> dict[str, Callable[[], None]]:
    """What is measured, by name; each goes over all texts once."""
    chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
    prepared = [scorer.prepare(chunk) for chunk in chunks]

    def session() -> None:
        for part in prepared:
            scorer.infer(part)

    def with_tokenising() -> None:
        for chunk in chunks:
            scorer.infer(scorer.prepare(chunk))

    def scoring() -> None:
        for chunk in chunks:
            scorer.score(chunk)

    def fp32() -> None:
        assert exact is not None
        for part in prepared:
            # In as many lanes as the model that it is compared with.
            for _ in exact.run_all(part.batches[0]):
                pass

    ways: dict[str, Callable[[], None]] = {
        "session": session,
        "with_tokenising": with_tokenising,
        "scoring": scoring,
    }
    return ways if exact is None else {**ways, "fp32": fp32}


def _medians(
    ways: Mapping[str, Callable[[], None]],
    posts: int,
    runs: int,
    report: Callable[[int, int], None],
) -> dict[str, float]:
    """Median posts a second of each way, over alternating runs."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs):
        for i, (name, way) in enumerate(ways.items()):
            start = time.perf_counter()
            way()
            rates[name].append(posts / (time.perf_counter() - start))
            report(run * len(ways) + i + 1, runs * len(ways))
    return {name: round(median(values), 1) for name, values in rates.items()}
