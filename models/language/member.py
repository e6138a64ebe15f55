"""Texts to batches of n-gram rows: what the language model's graph takes.

Every text lies in exactly one batch, its rows in an order that depends on the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import cut_batches
from models.language.ngrams import ngrams
from models.language.vocabulary import Vocabulary
from models.session import NGRAM_INPUT

#: N-grams, padding included, of one call: what they look up stays in a core's own cache.
BATCH_NGRAMS: Final = 8192
#: What a call costs besides, in n-grams.
_CALL_NGRAMS: Final = 256


@dataclass(frozen=True, slots=True)
class NgramBatch:
    """One inference call: `rows` are the texts' positions, `ngrams` is (rows, n) int32."""

    rows: NDArray[np.intp]
    ngrams: NDArray[np.int32]

    @property
    def feeds(self) -> Mapping[str, NDArray[Any]]:
        """The graph's inputs."""
        return {NGRAM_INPUT: self.ngrams}


def ngram_batches(
    texts: Sequence[str], vocabulary: Vocabulary, budget: int = BATCH_NGRAMS
) -> list[NgramBatch]:
    """The known n-grams of all texts, in batches of texts with similarly many.

    Args:
        texts: as they came.
        vocabulary: which n-grams are known; its length is the padding.
        budget: n-grams of a batch, padding included.
    """
    found = ngrams(texts)
    rows = vocabulary.rows(found.hashes)
    known = np.flatnonzero(rows >= 0)
    owner = found.texts[known]
    # Radix sort is for 16 bits only.
    small = owner.astype(np.uint16) if len(texts) <= 1 << 16 else owner
    rows = rows[known[np.argsort(small, kind="stable")]]
    counts = np.bincount(owner, minlength=len(texts))
    starts = np.cumsum(counts) - counts
    batches = []
    for ids in cut_batches(counts, budget, _CALL_NGRAMS):
        mine = counts[ids]
        mask = np.arange(max(1, mine[0])) < mine[:, None]
        padded = np.full(mask.shape, len(vocabulary), dtype=np.int32)
        firsts = np.repeat(starts[ids] - (np.cumsum(mine) - mine), mine)
        padded[mask] = rows[firsts + np.arange(len(firsts))]
        batches.append(NgramBatch(ids, padded))
    return batches
