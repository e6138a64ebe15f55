"""What a run that trains one task is about: settings, rows, where it stands. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.labelled import Labelled

#: Where a run starts when nothing is said: small, multilingual, MIT.
DEFAULT_BASE: Final = "intfloat/multilingual-e5-small"
#: In the run's folder: where it stands, and the best model so far.
STATE_FILE: Final = "state.json"
BEST: Final = "best"

#: Told the step, the share of it that is done (0 to 1) and a remark.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Training:
    """What to train and where.

    Args:
        task: what the model shall answer.
        data: TSV or JSON lines (`models.labelled`), as `tidegate reviews export` writes them.
        out: folder of the run; the same command goes on with what is there.
        base: a Hub id or a folder of an encoder or a classifier.
        revision: of the Hub id.
        dev: rows to measure on; None: one in ten of `data`, by a hash of the text.
        epochs: most passes over the rows.
        patience: epochs without a better one after which it ends.
        batch_rows: of one step.
        learning_rate: of the encoder; the head's is five times it.
        max_tokens: of a text.
        seed: of everything that is drawn.
    """

    task: str
    data: Path
    out: Path
    base: str = DEFAULT_BASE
    revision: str | None = None
    dev: Path | None = None
    epochs: int = 5
    patience: int = 2
    batch_rows: int = 32
    learning_rate: float = 5e-5
    max_tokens: int = 128
    seed: int = 1


@dataclass(slots=True)
class State:
    """Where a run stands, and of which settings and rows it is; written with every checkpoint."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    done: bool = False
    run: str = ""


@dataclass(frozen=True, slots=True)
class TaskRows:
    """The rows of a run; `several`: a text may have several of the labels."""

    train: list[Labelled]
    dev: list[Labelled]
    labels: list[str]
    several: bool
