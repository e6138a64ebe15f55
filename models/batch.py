"""Cut tokenised texts into batches of similar length, so that little padding is computed.

Every text lies in exactly one batch, and a batch's rows times its longest row stay within the
token budget (a text that is longer than the budget is a batch of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Feeds(Protocol):
    """What one inference call needs, whatever the graph reads."""

    @property
    def rows(self) -> NDArray[np.intp]:
        """The texts' positions, one a row of the inputs."""
        ...

    @property
    def feeds(self) -> Mapping[str, NDArray[Any]]:
        """The graph's inputs by name."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """One inference call: `rows` are the texts' positions, the arrays are (rows, tokens) int64."""

    rows: NDArray[np.intp]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]

    @property
    def feeds(self) -> Mapping[str, NDArray[Any]]:
        """The inputs that a tokenizer gives."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def cut_batches(lengths: NDArray[np.intp], budget: int) -> list[NDArray[np.intp]]:
    """Positions of the texts of each batch, longest texts first; equal lengths keep their order."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[NDArray[np.intp]] = []
    start = 0
    while start < len(order):
        # The first is the longest: it decides how many fit.
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad_batches(tokens: Sequence[Sequence[int]], budget: int, pad_id: int) -> list[Batch]:
    """`tokens` sorted by length, cut by the budget and padded on the right."""
    lengths = np.fromiter(map(len, tokens), dtype=np.intp, count=len(tokens))
    batches: list[Batch] = []
    for rows in cut_batches(lengths, budget):
        part = lengths[rows]
        mask = np.arange(part[0]) < part[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = np.concatenate([tokens[row] for row in rows.tolist()])
        batches.append(Batch(rows, ids, mask.astype(np.int64)))
    return batches
