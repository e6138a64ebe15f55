"""The whole scorer on each device that is there: the CPU's scores, in any company, in bounded memory.

On a machine with a GPU each test runs on both; without one the GPU's are skipped by name.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.manifest import Manifest
from models.parity import BOUNDS
from models.scorer import OnnxScorer
from models.scores import TextScores
from models.session import SessionOptions
from tests.models.conftest import DEVICES, sentences
from tests.models.test_scorer import POSTS, numbers

#: Largest change of a score by a post's company: of sums in another order, in each precision.
COMPANY = {"fp32": 1e-4, "fp16": 5e-3}
PRECISIONS = ("fp32", "fp16")
on_gpu = pytest.mark.parametrize("device", DEVICES[1:])
TEXTS = [*POSTS, *sentences(150, seed=21)]


def scorer_on(
    manifest: Manifest,
    precision: str,
    device: str,
    *,
    batch_tokens: int = 256,
    options: SessionOptions | None = None,
) -> OnnxScorer:
    return OnnxScorer(
        manifest, precision, device=device, threads=1, batch_tokens=batch_tokens, options=options
    )


def largest(found: list[TextScores], expected: list[TextScores]) -> float:
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(np.subtract(numbers(a), numbers(b))).max()) for a, b in pairs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_scores_are_those_of_the_cpu_in_fp32(
    exact_and_half: Manifest, device: str, precision: str
) -> None:
    expected = scorer_on(exact_and_half, "fp32", "cpu").score(TEXTS)
    found = scorer_on(exact_and_half, precision, device).score(TEXTS)
    bound = BOUNDS[precision]
    changes = [largest([a], [b]) for a, b in zip(found, expected, strict=True)]
    assert max(changes) < bound.change, f"{device}, {precision}: {max(changes)}"
    same = [
        {t: s.label for t, s in a.tasks.items()} == {t: s.label for t, s in b.tasks.items()}
        for a, b in zip(found, expected, strict=True)
    ]
    assert sum(same) / len(same) >= (1.0 if precision == "fp32" else 0.97)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_post_has_the_same_score_in_any_company(
    exact_and_half: Manifest, device: str, precision: str
) -> None:
    scorer = scorer_on(exact_and_half, precision, device)
    expected = scorer.score(TEXTS)
    order = random.Random(3).sample(range(len(TEXTS)), len(TEXTS))
    small = scorer_on(exact_and_half, precision, device, batch_tokens=48)
    shuffled = small.score([TEXTS[i] for i in order])
    alone = [scorer.score([text])[0] for text in TEXTS]
    changes = largest(shuffled, [expected[i] for i in order]), largest(alone, expected)
    assert max(changes) <= COMPANY[precision], f"{device}, {precision}: {changes}"


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpus_ways_of_running_take_threads_at_once(exact_and_half: Manifest, device: str) -> None:
    options = SessionOptions(sessions=2, binding=True, buckets=True)
    scorer = scorer_on(exact_and_half, "fp16", device, batch_tokens=64, options=options)
    parts = [sentences(60, seed) for seed in range(6)]
    expected = [scorer.score(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(scorer.score, parts))
    assert max(map(largest, found, expected)) <= COMPANY["fp16"]


@pytest.mark.parametrize("device", DEVICES)
def test_what_was_asked_for_is_what_runs(exact_and_half: Manifest, device: str) -> None:
    scorer = scorer_on(exact_and_half, "fp16", device)
    (facts,) = (each.session for each in scorer.facts)
    gpu = device != "cpu"
    assert scorer.device == ("cuda:0" if gpu else "cpu")
    assert facts.provider == f"{device.upper()}ExecutionProvider"
    assert (facts.sessions, facts.buckets) == ((2, True) if gpu else (1, False))
    assert facts.remark is None


@on_gpu
def test_auto_takes_the_gpu_for_what_is_made_for_it(exact_and_half: Manifest, device: str) -> None:
    assert scorer_on(exact_and_half, "fp16", "auto").device == f"{device}:0"


@on_gpu
def test_the_cards_memory_does_not_grow(exact_and_half: Manifest, device: str) -> None:
    scorer = scorer_on(exact_and_half, "fp16", device, batch_tokens=4096)
    scorer.score(sentences(4000, seed=1))
    free = _free_bytes()
    for seed in range(2, 12):
        scorer.score(sentences(700 * seed % 4000 + 1, seed))
    # A shape that came for the first time may take some; eight times as many posts take no more.
    assert free - _free_bytes() < 64 << 20


def _free_bytes() -> int:
    runtime = ctypes.CDLL("libcudart.so.13")
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value


@on_gpu
@pytest.mark.parametrize("asked", ["cuda", "auto"])
def test_a_card_that_is_hidden_is_an_error_or_a_remark(
    exact_and_half: Manifest, device: str, asked: str
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from models.manifest import load_manifest; from models.scorer import OnnxScorer\n"
        "from models.errors import ModelRuntimeError\n"
        "try:\n"
        "    scorer = OnnxScorer(load_manifest(Path(sys.argv[1])), 'fp16', device=sys.argv[2])\n"
        "    print(scorer.device, '|', scorer.facts[0].session.remark)\n"
        "except ModelRuntimeError as exc:\n"
        "    print('error |', exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(exact_and_half.path), asked],
        env=dict(_environment(), CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (said,) = done.stdout.splitlines()[:1]
    if asked == "auto":
        assert said.startswith("cpu | ")
        assert "GPU" in said or "fell back to the CPU" in said
    else:
        assert said.startswith("error | ")
        assert f"`{device}:0`" in said


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
