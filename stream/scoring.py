"""The scorer that the settings ask for: one place, so that every process scores the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from stream.outcomes import ModelInUse

if TYPE_CHECKING:
    from models.scorer import ModelFacts
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


def log_models(scorer: Scorer) -> None:
    """Say how each model runs: device, provider, fused operators, time of the warm-up."""
    import structlog

    from models.scorer import OnnxScorer

    if isinstance(scorer, OnnxScorer):
        log = structlog.stdlib.get_logger("tidegate.models")
        for facts in scorer.facts:
            log.info("model loaded", **model_event(facts))


def model_event(facts: ModelFacts) -> dict[str, Any]:
    """A model's facts as the keys of one event."""
    session = asdict(facts.session)
    remark = session.pop("remark")
    event = {"model": facts.id, "version": facts.version, "precision": facts.precision, **session}
    event["fused"] = dict(facts.fused or {})
    return event if remark is None else {**event, "remark": remark}


def models_in_use(scorer: object) -> list[ModelInUse]:
    """How a scorer's models run; nothing of a scorer that has none."""
    from models.scorer import OnnxScorer

    if not isinstance(scorer, OnnxScorer):
        return []
    return [
        ModelInUse(
            id=facts.id,
            version=facts.version,
            precision=facts.precision,
            device=facts.session.device,
            provider=facts.session.provider,
            sessions=facts.session.sessions,
            threads=facts.session.threads,
            warm_up_s=facts.session.warm_up_s,
            fused=dict(facts.fused or {}),
            remark=facts.session.remark,
        )
        for facts in scorer.facts
    ]
