"""What a second view of disguised words is worth, on dev rows and on disguised copies of them.

    python -m bench.second_view DATA [--rows 4000]

DATA is a folder as docs/models/data.md describes it. Every disguise is applied to the longest
words of a post; the rows whose text it leaves alone are not counted.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.manifest import load_manifest
from models.metrics import roc_auc
from models.scorer import OnnxScorer
from models.training.data import read_task
from models.views import second_view

_LATIN_WORD = re.compile(r"[A-Za-z]{4,}")
_LEET = str.maketrans("aeiost", "431057")
_CYRILLIC = str.maketrans("aceopxyiAEOPCTXBHKM", "асеорхуіАЕОРСТХВНКМ")


def leet(word: str, _: random.Random) -> str:
    """Vowels and s, t as digits."""
    return word.translate(_LEET)


def look_alike(word: str, rng: random.Random) -> str:
    """Cyrillic letters for all but one."""
    kept = rng.randrange(len(word))
    return "".join(c if i == kept else c.translate(_CYRILLIC) for i, c in enumerate(word))


def zero_width(word: str, rng: random.Random) -> str:
    """A zero-width space inside."""
    at = rng.randrange(1, len(word))
    return f"{word[:at]}\u200b{word[at:]}"


def spaced(word: str, rng: random.Random) -> str:
    """A space, dot or dash between letters."""
    return rng.choice(" .-").join(word)


def stretched(word: str, rng: random.Random) -> str:
    """One letter several times."""
    at = rng.randrange(1, len(word))
    return word[:at] + word[at] * rng.randint(2, 5) + word[at:]


DISGUISES: dict[str, Callable[[str, random.Random], str]] = {
    "leet": leet,
    "look-alikes": look_alike,
    "zero-width": zero_width,
    "spaced out": spaced,
    "stretched": stretched,
}


def disguised(text: str, how: Callable[[str, random.Random], str], rng: random.Random) -> str:
    """`text` with its three longest Latin words changed."""
    words = sorted(set(_LATIN_WORD.findall(text)), key=lambda w: (-len(w), w))[:3]
    for word in words:
        text = re.sub(rf"\b{word}\b", how(word, rng), text)
    return text


def toxic(scorer: OnnxScorer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Score of the first toxicity label of each text."""
    return np.array(
        [next(iter(s.tasks["toxicity"].scores.values())) for s in scorer.score(texts)], np.float32
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=4000)
    options = parser.parse_args()
    manifest = load_manifest()
    (model, *_) = (m for m in manifest.preset("compact").values() if "toxicity" in m.heads)
    head = model.heads["toxicity"]
    part = read_task(options.data, "toxicity", "dev", head.labels)
    rng = random.Random(0)
    rows = [row for row in part.rows if isinstance(row.target, tuple) and row.target[0] >= 0]
    rows = rng.sample(rows, min(options.rows, len(rows)))
    truth = np.array([row.target[0] for row in rows if isinstance(row.target, tuple)])
    plain = OnnxScorer(manifest, "compact", device="cpu")
    views = OnnxScorer(manifest, "compact", device="cpu", second_views=True)
    limit = head.thresholds[head.labels[0]]
    print(f"{'copy':13} {'rows':>5} {'viewed':>7}   ROC-AUC        recall         false positives")
    print(f"{'':13} {'':5} {'':7}   without with    without with   without with")
    copies = {"as they are": [row.text for row in rows]}
    for name, how in DISGUISES.items():
        copies[name] = [disguised(row.text, how, rng) for row in rows]
    for name, texts in copies.items():
        kept = [i for i, row in enumerate(rows) if name == "as they are" or texts[i] != row.text]
        here, chosen = truth[kept], [texts[i] for i in kept]
        share = np.mean([second_view(text) != text for text in chosen])
        figures = []
        for scorer in (plain, views):
            began = time.perf_counter()
            scores = toxic(scorer, chosen)
            seconds = time.perf_counter() - began
            said = scores >= limit
            figures.append(
                (
                    roc_auc(here, scores) or 0.0,
                    said[here == 1].mean(),
                    said[here == 0].mean(),
                    seconds,
                )
            )
        (a, b) = figures
        print(
            f"{name:13} {len(kept):5} {share:7.1%}   {a[0]:.3f}   {b[0]:.3f}   {a[1]:.3f}   "
            f"{b[1]:.3f}   {a[2]:.3f}   {b[2]:.3f}   time x{b[3] / a[3]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
