"""What a scorer is and what it answers; the seam between the models and everything else.

Invariant: the scores of a text depend on the text alone, never on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

#: Scores carry no more: what is behind them differs between machines.
DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A model's id and version, as they stand on every label it makes."""

    id: str
    version: str


# A struct, because a label's JSON is written from it directly, one per post and task.
class TaskScore(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One task's answer for one text; all scores are probabilities in 0 to 1, to `DECIMALS`.

    For a task with several labels at once (toxicity) `label` is the highest label at or over its
    threshold or `none`, and `score` the highest score of all. `unsupported` is set where the
    task was not measured on the text's language.
    """

    label: str
    score: float
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    unsupported: bool = False


class TextScores(msgspec.Struct, frozen=True, gc=False):
    """Every task's answer for one text.

    `truncated`: only the beginning of the text was scored. `cleaned`: characters that no
    tokenizer can read (NUL, lone surrogates) were replaced before scoring.
    """

    tasks: Mapping[str, TaskScore]
    truncated: bool = False
    cleaned: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """Tokenised texts, ready for the session.

    `batches` are what the scorer cut them into, and `pieces` which of it belongs to which text;
    their form is the scorer's own business.
    """

    count: int
    batches: Sequence[Any]
    truncated: Sequence[bool] = field(default_factory=list)
    cleaned: Sequence[bool] = field(default_factory=list)
    pieces: Sequence[Any] = field(default_factory=list)


class Scorer(Protocol):
    """Scores texts in three stages that may overlap in three threads.

    `prepare` (tokenise) and `finish` (probabilities, labels) release no lock worth mentioning;
    `infer` runs the session and releases the GIL. Each stage may run for different batches at
    the same time; `prepare` and `finish` are called by one thread at a time, `infer` by as many as
    `lanes`.
    """

    @property
    def lanes(self) -> int:
        """How many batches may be in `infer` at once, and gain by it."""
        ...

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        """Task to the model that answers it."""
        ...

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Clean, tokenise, sort by length and cut into batches by token budget."""
        ...

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        """Logits of shape (texts, labels of all tasks), in the order of the texts.

        Raises:
            ModelRuntimeError: the session failed.
        """
        ...

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        """Scores in the order of the texts."""
        ...

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        """The three stages one after the other."""
        ...
