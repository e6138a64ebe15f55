"""The scorer that the settings ask for: one place, so that every process scores the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.scores import Scorer
    from stream.settings import ModelSettings


def scorer_of(models: ModelSettings) -> Scorer:
    """The scorer of the section `models`.

    Raises:
        ModelError: it cannot be loaded, with the reason.
    """
    from models.scorer import load_scorer

    return load_scorer(
        models.manifest,
        models.preset,
        device=models.device,
        threads=models.threads,
        batch_tokens=models.batch_tokens,
        windows=models.windows,
        second_views=models.second_views,
    )
