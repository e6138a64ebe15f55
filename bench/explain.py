"""What an explanation costs: milliseconds for a post of 40 tokens, and as a multiple of one scoring.

python -m bench.explain [--runs 40]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

from models.devices import available_threads
from models.explain import explain
from models.scorer import OnnxScorer, load_scorer

POST = (
    "you are such a stupid idiot and I really hope that you never come back here again because "
    "nobody wants to read your garbage posts anymore, go away and leave us all alone please"
)


def main() -> None:
    """Print the figures, medians of alternating runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    scorer = load_scorer()
    assert isinstance(scorer, OnnxScorer)
    tokens = scorer.prepare([POST]).batches[0][0].input_ids.shape[1]
    ways: dict[str, Callable[[], object]] = {
        "explain": lambda: explain(scorer, POST),
        "score": lambda: scorer.score([POST]),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            taken[name].append((time.perf_counter() - begun) * 1e3)
    middle = {name: median(values) for name, values in taken.items()}
    print(
        f"{tokens} tokens, {available_threads()} threads: explain {middle['explain']:.1f} ms "
        f"(best {min(taken['explain']):.1f}), one scoring {middle['score']:.1f} ms "
        f"(best {min(taken['score']):.1f}), ratio {middle['explain'] / middle['score']:.1f}"
    )


if __name__ == "__main__":
    main()
