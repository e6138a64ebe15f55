"""How far a graph's answers are from those of the PyTorch model it was exported from.

Two independent ways from text to score are compared: the scorer with its tokenizer file, batches
and heads, and transformers with its own tokenizer, one post at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import Checkpoint, load_classifier
from models.errors import ModelBuildError, ParityError
from models.heads import HeadReader
from models.manifest import Head, Parity
from models.scorer import OnnxScorer

#: Posts that are compared.
POSTS: Final = 300
_CHUNK: Final = 16


class Bound(NamedTuple):
    """The largest change of any score, and the smallest share of equal labels, that are let pass."""

    change: float
    agreement: float


#: By precision. fp32 differs by rounding alone; fp16 carries 11 bits; int8 moves a few labels in a
#: hundred (docs/models/quantisation.md), dynamic int8 more of them.
BOUNDS: Final = {
    "fp32": Bound(1e-3, 0.999),
    "fp16": Bound(0.03, 0.99),
    "int8": Bound(0.25, 0.97),
    "dynamic-int8": Bound(0.4, 0.93),
}


def torch_logits(
    checkpoint: Checkpoint, texts: Sequence[str], done: Callable[[int], None]
) -> NDArray[np.float32]:
    """Logits of the PyTorch model, shape (texts, logits); `done` is told how many there are."""
    import torch

    model, tokenizer = load_classifier(checkpoint)
    takes = set(signature(model.forward).parameters)
    parts = []
    with torch.inference_mode():
        for i, text in enumerate(texts):
            tokens = tokenizer(
                text, truncation=True, max_length=checkpoint.max_tokens, return_tensors="pt"
            )
            # A tokenizer may give token types that its model does not take.
            tokens = {name: value for name, value in tokens.items() if name in takes}
            parts.append(model(**tokens).logits[0].float().numpy())
            if i % _CHUNK == 0:
                done(i)
    return np.stack(parts)


def comparable(scorer: OnnxScorer, texts: Sequence[str]) -> list[str]:
    """The texts that are one window: a longer one is put together from several here, cut there."""
    kept = []
    for text in texts:
        prepared = scorer.prepare([text])
        if prepared.pieces[0] is None and not prepared.truncated[0] and text.strip():
            kept.append(text)
    return kept


def measure_parity(
    scorer: OnnxScorer,
    checkpoint: Checkpoint,
    texts: Sequence[str],
    report: Callable[[float], None] = lambda _share: None,
) -> Parity:
    """Compare on those of `texts` that are one window.

    Raises:
        ModelBuildError: there is nothing to compare with.
        ModelSourceError: the PyTorch model cannot be loaded.
    """
    posts = comparable(scorer, texts)[:POSTS]
    if not posts:
        raise ModelBuildError(
            "no posts to compare the graph and the PyTorch model on",
            hint="give a file of posts as the worker will see them: `--posts FILE`",
        )
    exact = torch_logits(checkpoint, posts, lambda count: report(count / len(posts)))
    served = scorer.infer(scorer.prepare(posts))
    report(1.0)
    return distance(served, exact, checkpoint.heads)


def distance(
    served: NDArray[np.float32], exact: NDArray[np.float32], heads: dict[str, Head]
) -> Parity:
    """Largest change of a score and share of equal labels, of two sets of logits."""
    change, agreement = 0.0, 1.0
    for head in heads.values():
        reader = HeadReader(head)
        a, b = reader.probabilities(served), reader.probabilities(exact)
        change = max(change, float(np.abs(a - b).max(initial=0.0)))
        no_doubt = [False] * len(a)
        pairs = zip(reader.read(a, no_doubt), reader.read(b, no_doubt), strict=True)
        agreement = min(agreement, float(np.mean([x.label == y.label for x, y in pairs])))
    return Parity(posts=len(served), largest_change=round(change, 6), agreement=round(agreement, 4))


def check_parity(parity: Parity, bound: Bound, graph: Path) -> None:
    """Refuse a graph that is further from its model than `bound`.

    Raises:
        ParityError: it is.
    """
    said = []
    if parity.largest_change > bound.change:
        said.append(f"a score differs by {parity.largest_change:.4f} (bound {bound.change:g})")
    if parity.agreement < bound.agreement:
        said.append(f"{parity.agreement:.1%} of the labels agree (bound {bound.agreement:.1%})")
    if said:
        raise ParityError(
            f"the graph answers otherwise than the PyTorch model on {parity.posts} posts: "
            + ", ".join(said),
            where=str(graph),
            hint="`--quantise none` keeps fp32; `--max-change` and `--min-agreement` set the bound",
        )
