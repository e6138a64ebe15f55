"""Pads batches to a few fixed shapes, for GPUs: memory, kernels and engines are made once a shape.

Padding is masked, and rows that are added are left out of the answer: no score changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Rows and tokens are padded to the next of these; at most a third is padding from 8 on.
STEPS: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
#: Fewer tokens than this are padded to it.
_MIN_TOKENS: Final = 16


def next_step(size: int) -> int:
    """The smallest step that holds `size`; multiples of the largest beyond it."""
    place = bisect_left(STEPS, size)
    return STEPS[place] if place < len(STEPS) else -(-size // STEPS[-1]) * STEPS[-1]


def in_bucket(
    feeds: Mapping[str, NDArray[Any]], pad_id: int, most_tokens: int | None = None
) -> dict[str, NDArray[Any]]:
    """`feeds` padded to the next bucket; other inputs than tokens are given back as they are.

    Args:
        feeds: `input_ids`, `attention_mask`, perhaps `token_type_ids`; (rows, tokens) each.
        pad_id: the tokenizer's padding: RoBERTa counts its positions by it.
        most_tokens: what the model reads at most; a bucket is never wider.
    """
    if "input_ids" not in feeds:
        return dict(feeds)
    rows, tokens = feeds["input_ids"].shape
    wide = max(next_step(tokens), _MIN_TOKENS)
    if most_tokens is not None:
        wide = max(tokens, min(wide, most_tokens))
    shape = (next_step(rows), wide)
    padded = {}
    for name, values in feeds.items():
        whole = np.full(shape, pad_id if name == "input_ids" else 0, dtype=values.dtype)
        whole[:rows, :tokens] = values
        if name == "attention_mask":
            # A row without any token would divide by zero in the softmax.
            whole[rows:, 0] = 1
        padded[name] = whole
    return padded
