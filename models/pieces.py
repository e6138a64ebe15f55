"""One text, several passes: windows of a long text, and a second view of a disguised one.

Every piece's logits depend on that piece alone, and how they are put together on its own text
alone: so the same text gets the same score in any company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from models.manifest import Head

#: Windows of one text that are scored; what lies beyond them is `truncated`. Four windows of 192
#: tokens read about 2,500 characters of English, and bound what one post can cost.
MAX_WINDOWS: Final = 4
#: Neighbouring windows share this part of a window, so that no phrase is cut in both.
OVERLAP: Final = 1 / 6


def overlap_tokens(max_tokens: int) -> int:
    """Tokens that a window shares with the one before it."""
    return int(max_tokens * OVERLAP)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which text each piece belongs to, and what it weighs in a mean; (pieces,) both.

    A second view weighs nothing: it can only raise the labels that are detected.
    """

    owner: NDArray[np.intp]
    weight: NDArray[np.float32]


@dataclass(slots=True)
class Cutting:
    """Collects pieces while texts are tokenised.

    Args:
        windows: most windows of one text.
    """

    windows: int
    tokens: list[Sequence[int]] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    weight: list[int] = field(default_factory=list)

    def add(self, text: int, encoding: Encoding, limit: int, *, second_view: bool = False) -> bool:
        """Take the windows of `encoding`; whether some were left out."""
        # `overflowing` copies what it holds: only a full row can have any.
        rest = encoding.overflowing if len(encoding.ids) == limit else []
        for window in [encoding, *rest[: self.windows - 1]]:
            self.tokens.append(window.ids)
            self.owner.append(text)
            self.weight.append(0 if second_view else len(window.ids))
        return len(rest) >= self.windows

    def pieces(self, texts: int) -> Pieces | None:
        """None where each text is one piece, in the order of the texts."""
        if len(self.owner) == texts:
            return None
        return Pieces(np.array(self.owner, np.intp), np.array(self.weight, np.float32))


def combine(
    logits: NDArray[np.float32], pieces: Pieces, texts: int, heads: Mapping[str, Head]
) -> NDArray[np.float32]:
    """Logits of the texts, shape (texts, width), from those of their pieces.

    Several labels at once (`sigmoid`): the largest of all pieces, label by label. One answer
    (`softmax`): the mean of the windows' probabilities, weighted by their tokens, as logits again.
    A text of one piece keeps its logits to the bit.
    """
    count = np.bincount(pieces.owner, minlength=texts)
    first = np.zeros(texts, np.intp)
    first[pieces.owner[::-1]] = np.arange(len(pieces.owner) - 1, -1, -1)
    whole = logits[first]
    for text in np.flatnonzero(count > 1).tolist():
        mine = np.flatnonzero(pieces.owner == text)
        for head in heads.values():
            columns = slice(*head.slice)
            part = logits[mine, columns]
            if head.activation == "sigmoid":
                whole[text, columns] = part.max(axis=0)
                continue
            weight = pieces.weight[mine].astype(np.float64)
            if np.count_nonzero(weight) > 1:
                shifted = np.exp(part.astype(np.float64) - part.max(axis=1, keepdims=True))
                shares = shifted / shifted.sum(axis=1, keepdims=True)
                mean = (weight[:, None] * shares).sum(axis=0) / weight.sum()
                whole[text, columns] = np.log(np.maximum(mean, 1e-30)).astype(np.float32)
    return whole
