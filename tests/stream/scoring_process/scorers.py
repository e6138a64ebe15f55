"""A scoring process whose scorer does what its text says: `-m ...scorers FD...`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelRuntimeError
from models.null import NullScorer
from models.scores import Prepared
from stream.scoring_process.child import main
from stream.settings import ModelSettings


class ObedientScorer(NullScorer):
    """The null scorer, unless a text asks for something else."""

    lanes: Final = 2  # type: ignore[misc] # of one that waits the other must know nothing

    def prepare(self, texts: Sequence[str]) -> Prepared:
        waits = []
        for text in texts:
            word, _, rest = text.partition(" ")
            if word == "fail":
                raise ValueError("as asked")
            if word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "wait":
                waits.append(float(rest))
        return replace(super().prepare(texts), pieces=waits)

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        for seconds in prepared.pieces:
            time.sleep(seconds)
        return super().infer(prepared)


class BrokenScorer(NullScorer):
    """Fails on everything."""

    def prepare(self, texts: Sequence[str]) -> Prepared:
        raise RuntimeError(f"no session for {len(texts)} texts")


def load(settings: ModelSettings) -> NullScorer:
    """By the preset: `obedient`, `broken`, or one that cannot be loaded."""
    if settings.preset == "dies":
        os._exit(7)
    if settings.preset == "cannot":
        raise ModelRuntimeError("no such card", where="cuda:9", hint="take another")
    if settings.preset == "surprise":
        raise ZeroDivisionError("a surprise")
    return BrokenScorer() if settings.preset == "broken" else ObedientScorer()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]], load)
