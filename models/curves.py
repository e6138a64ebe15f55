"""A calibration curve: raw logit to calibrated logit, straight between a few points.

Invariant: it rises strictly everywhere, so it changes no ranking and two scores that differ still
differ; beyond its ends it goes on as steep as its first and last piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Points = Annotated[list[float], msgspec.Meta(min_length=2)]


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The points, and how they were found: `linear` (two points), `isotonic` (more)."""

    method: Literal["linear", "isotonic"]
    raw: Points
    calibrated: Points

    def __call__(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """The calibrated logits, of the same shape."""
        raw, to = np.array(self.raw), np.array(self.calibrated)
        before = (to[1] - to[0]) / (raw[1] - raw[0])
        after = (to[-1] - to[-2]) / (raw[-1] - raw[-2])
        inside: NDArray[np.float64] = np.interp(logits, raw, to)
        inside += before * np.minimum(logits - raw[0], 0.0)
        inside += after * np.maximum(logits - raw[-1], 0.0)
        return inside

    def problems(self) -> Iterator[str]:
        """What is wrong with the points."""
        if len(self.raw) != len(self.calibrated):
            yield f"{len(self.raw)} raw points do not match {len(self.calibrated)} calibrated ones"
        for name, points in (("raw", self.raw), ("calibrated", self.calibrated)):
            if any(b <= a for a, b in pairwise(points)):
                yield f"its `{name}` points do not rise"
