"""The scorer that the settings ask for: one place, so that every process scores the same."""

from __future__ import annotations

from collections.abc import Sequence
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


def events_of(scorer: Scorer) -> list[dict[str, Any]]:
    """What the log should say of a scorer's models: device, provider, fused operators, warm-up."""
    from models.scorer import OnnxScorer

    return [model_event(facts) for facts in scorer.facts] if isinstance(scorer, OnnxScorer) else []


def log_events(events: Sequence[dict[str, Any]]) -> None:
    """Say how each model runs."""
    import structlog

    log = structlog.stdlib.get_logger("tidegate.models")
    for event in events:
        log.info("model loaded", **event)


def model_event(facts: ModelFacts) -> dict[str, Any]:
    """A model's facts as the keys of one event."""
    session = asdict(facts.session)
    remark = session.pop("remark")
    event = {"model": facts.id, "version": facts.version, "precision": facts.precision, **session}
    event["fused"] = dict(facts.fused or {})
    return event if remark is None else {**event, "remark": remark}


def models_in_use(scorer: object) -> list[ModelInUse]:
    """How a scorer's models run; nothing of a scorer that has none."""
    from stream.scoring_process.handle import ScoringProcess

    if isinstance(scorer, ScoringProcess):
        return list(scorer.in_use)
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
