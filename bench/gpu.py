"""A preset on a GPU beside PyTorch in fp16 and beside what the card can multiply.

    python -m bench.gpu make DIR --size xlmr-base
    python -m bench.gpu speed DIR [--tokens 32 64] [--rounds 5] [--compile]
    python -m bench.gpu sweep DIR [--tokens 32]
    python -m bench.gpu workers DIR [--workers 1 2 4] [--tokens 32]
    python -m bench.gpu drift DIR

`make` writes a classifier of that size with random weights, which take the same time, and adopts it
for GPUs as `tidegate models add --for gpu` does: exported, fused, fp16, compared with PyTorch. It
needs the extra `models`, `speed` needs torch; all run on a CPU, too (`--device cpu`), to be tried.
Each prints a JSON object.

`speed` gives all ways the same posts, of exactly so many tokens each, from token ids in the host's
memory to logits there, in alternating rounds; medians. The limit is the encoder's products over the
rate of one large product in fp16 that was measured in the same run. `drift` says by how much a score
changes when a post is in other batches.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bench.gpu_model import NAME, SIZES, make
from models.batch import Batch, pad_batches
from models.devices import available_threads
from models.manifest import load_manifest
from models.scorer import GPU_BATCH_TOKENS, OnnxScorer
from models.scores import Prepared, TextScores
from models.session import GraphSession, SessionOptions
from stream.bench.load import read_posts
from stream.post_decoding import decode_post

#: Posts of one call of the scorer, as a worker's batch.
_CHUNK: Final = 2048
#: A worker prepares and finishes batches while others are computed.
_THREADS: Final = 3


def card() -> str:
    """The GPU's name, driver and memory; the processor where there is none."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.used", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - a fixed command
    except (OSError, subprocess.CalledProcessError):
        return f"no NVIDIA GPU ({platform.machine()}, {available_threads()} cores)"


def scorer_of(folder: Path, device: str, **how: Any) -> OnnxScorer:
    """The scorer of the model that `make` put into `folder`."""
    return OnnxScorer(load_manifest(folder / "manifest.toml"), NAME, device=device, **how)


def texts_of(folder: Path, tokens: int, count: int) -> list[str]:
    """Posts of exactly so many tokens, put together from the words of the demo's posts."""
    tokenizer = Tokenizer.from_file(str(folder / NAME / "tokenizer.json"))
    words = " ".join(decode_post(value).text or "" for _, value in read_posts(None)).split()
    rng = random.Random(tokens)
    found: list[str] = []
    while len(found) < count:
        long = [" ".join(rng.choices(words, k=tokens)) for _ in range(_CHUNK)]
        shorter = [
            text[: encoding.offsets[tokens - 2][1]]
            for text, encoding in zip(long, tokenizer.encode_batch(long), strict=True)
        ]
        found += [
            text
            for text, encoding in zip(shorter, tokenizer.encode_batch(shorter), strict=True)
            if len(encoding.ids) == tokens
        ]
    return found[:count]


def ids_of(folder: Path, texts: Sequence[str]) -> NDArray[np.int64]:
    """The token ids of texts that are equally long."""
    tokenizer = Tokenizer.from_file(str(folder / NAME / "tokenizer.json"))
    return np.array([e.ids for e in tokenizer.encode_batch(list(texts))], dtype=np.int64)


def speed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Posts a second of every way at each length."""
    from bench import gpu_torch

    found: dict[str, Any] = {"peak": gpu_torch.peak(options.device), "lengths": {}}
    stock = gpu_torch.stock(folder / "source", options.device)
    compiled = gpu_torch.compiled(stock) if options.compile else None
    scorer = scorer_of(folder, options.device)
    found["sessions"] = [repr(facts) for facts in scorer.facts]
    for tokens in options.tokens:
        texts = texts_of(folder, tokens, options.posts)
        ids = ids_of(folder, texts)
        prepared = [scorer.prepare(chunk) for chunk in _chunks(texts)]
        rows = gpu_torch.best_rows(stock, ids, options.device)

        ways: dict[str, Callable[[], None]] = {
            "session": partial(_infer, scorer, prepared),
            "scorer": partial(_score, scorer, texts),
            "pytorch": partial(_pytorch, stock, ids, rows["rows"], options.device),
        }
        if compiled is not None:
            ways["pytorch_compiled"] = partial(
                _pytorch, compiled, ids, rows["rows"], options.device
            )
        rates = _rounds(ways, len(texts), options.rounds)
        flops = gpu_torch.flops_of_a_post(folder / "source", tokens)
        limit = found["peak"]["tflops"] * 1e12 / flops
        found["lengths"][tokens] = {
            "posts_per_s": {name: round(median(values), 1) for name, values in rates.items()},
            "all_rounds": {name: [round(v, 1) for v in values] for name, values in rates.items()},
            "gflop_per_post": round(flops / 1e9, 3),
            "limit_posts_per_s": round(limit, 1),
            "of_the_limit": {name: round(median(v) / limit, 3) for name, v in rates.items()},
            "pytorch_rows": rows,
            "difference_to_pytorch": gpu_torch.difference(
                stock, ids[:256], _logits(scorer, texts[:256]), options.device
            ),
        }  # fmt: skip
    return found | {"card": card()}


def _infer(scorer: OnnxScorer, parts: Sequence[Prepared]) -> None:
    for part in parts:
        scorer.infer(part)


def _score(scorer: OnnxScorer, texts: Sequence[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(scorer.score, _chunks(texts)):
            pass


def _run_all(session: GraphSession, batches: Sequence[Batch]) -> None:
    for _ in session.run_all(batches):
        pass


def _pytorch(model: Any, ids: NDArray[np.int64], rows: int, device: str) -> None:
    from bench import gpu_torch

    gpu_torch.run(model, ids, rows, device)


def sweep(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Posts a second by tokens a call, sessions and binding: what the defaults are chosen by."""
    (model,) = load_manifest(folder / "manifest.toml").preset(NAME).values()
    table = []
    for tokens in options.tokens:
        ids = ids_of(folder, texts_of(folder, tokens, options.posts))
        for count, binding in ((1, False), (1, True), (2, False), (2, True), (3, True)):
            session = GraphSession(
                folder / NAME / model.graph,
                device=options.device,
                runs_on=list(model.devices),
                threads=0,
                pad_id=model.pad_id or 0,
                most_tokens=model.max_tokens,
                options=SessionOptions(sessions=count, binding=binding, buckets=True),
            )
            ways = {
                str(budget): partial(
                    _run_all, session, pad_batches(ids.tolist(), budget, model.pad_id or 0, 1)
                )
                for budget in options.budgets
            }
            rates = _rounds(ways, len(ids), options.rounds)
            table += [
                {"tokens": tokens, "sessions": count, "binding": binding, "budget": int(budget),
                 "posts_per_s": round(median(values), 1)}
                for budget, values in rates.items()
            ]  # fmt: skip
    return {"card": card(), "table": table}


def workers(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Posts a second of several processes that share the card, all of them scoring at once."""
    found = []
    for tokens in options.tokens:
        texts = texts_of(folder, tokens, options.posts)
        for count in options.workers:
            context = get_context("spawn")
            gate, answers = context.Barrier(count), context.Queue()
            running = [
                context.Process(
                    target=_worker, args=(folder, options, texts, gate, answers), daemon=True
                )
                for _ in range(count)
            ]
            for process in running:
                process.start()
            parts = [answers.get(timeout=180) for _ in running]
            for process in running:
                process.join(30)
            found.append(
                {
                    "tokens": tokens,
                    "workers": count,
                    "posts_per_s": round(sum(posts / seconds for posts, seconds, _ in parts), 1),
                    "each": [round(posts / seconds, 1) for posts, seconds, _ in parts],
                    "card_while_running": parts[0][2],
                }
            )
    return {"card": card(), "workers": found}


def _worker(
    folder: Path, options: argparse.Namespace, texts: list[str], gate: Any, answers: Any
) -> None:
    # The tokenizers of all processes together take the cores there are.
    os.environ["RAYON_NUM_THREADS"] = str(max(1, available_threads() // gate.parties))
    scorer = scorer_of(folder, options.device)
    scorer.score(texts[:_CHUNK])
    gate.wait(170)
    begun, done = time.perf_counter(), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        while time.perf_counter() - begun < options.seconds:
            done += sum(map(len, pool.map(scorer.score, _chunks(texts))))
        seconds = time.perf_counter() - begun
    answers.put((done, seconds, card()))


def drift(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The largest change of a score when the same posts are cut into other batches."""
    posts = [decode_post(value).text or "" for _, value in read_posts(None)][: options.posts]
    rng = random.Random(5)
    found = {}
    for name, how in (
        ("as it is", {}),
        ("no buckets", {"options": SessionOptions(buckets=False)}),
    ):
        scorers = [
            scorer_of(folder, options.device, batch_tokens=budget, **how)
            for budget in (GPU_BATCH_TOKENS, 1024)
        ]
        expected = scorers[0].score(posts)
        alone = [scorers[0].score([post])[0] for post in posts[:200]]
        order = rng.sample(range(len(posts)), len(posts))
        mixed = scorers[1].score([posts[i] for i in order])
        found[name] = {
            "alone": _largest(expected[:200], alone),
            "shuffled, smaller batches": _largest([expected[i] for i in order], mixed),
            "again": _largest(expected, scorers[0].score(posts)),
            "logits, shuffled": float(
                np.abs(
                    _logits(scorers[0], posts)[order]
                    - _logits(scorers[1], [posts[i] for i in order])
                ).max()
            ),
        }
    return {"card": card(), "posts": len(posts), "largest_change": found}


def _largest(first: Sequence[TextScores], second: Sequence[TextScores]) -> dict[str, float]:
    changes, moved = [0.0], 0
    for one, other in zip(first, second, strict=True):
        for task, scores in one.tasks.items():
            there = other.tasks[task]
            moved += scores.label != there.label
            changes += [abs(v - there.scores.get(k, v)) for k, v in scores.scores.items()]
    return {"change": float(max(changes)), "labels_moved": moved}


def _logits(scorer: OnnxScorer, texts: Sequence[str]) -> NDArray[np.float32]:
    return scorer.infer(scorer.prepare(texts))


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]


def _rounds(
    ways: Mapping[str, Callable[[], None]], posts: int, rounds: int
) -> dict[str, list[float]]:
    """Posts a second of each way, each round; one more before them does not count."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                rates[name].append(posts / (time.perf_counter() - begun))
    return rates


def main() -> None:
    """Do what is asked and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "speed", "sweep", "workers", "drift"))
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--size", choices=tuple(SIZES), default="xlmr-base")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--posts", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument(
        "--budgets", type=int, nargs="+", default=[2048, 4096, 8192, 16_384, 32_768, 65_536]
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    if options.what == "make":
        print(json.dumps(make(options.size, options.folder), indent=1))
        return
    doing = {"speed": speed, "sweep": sweep, "workers": workers, "drift": drift}
    print(json.dumps(doing[options.what](options.folder, options), indent=1))


if __name__ == "__main__":
    main()
