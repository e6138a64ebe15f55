"""The role `label`: posts in, labels out. What a label is stands in `stream.pipeline`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from models.devices import available_threads
from models.scores import Scorer
from stream.agents.flowing import add_flow_agent
from stream.flow import Flow
from stream.pipeline import Pipeline
from stream.roles import Role
from stream.scoring_process.handle import ScoringProcess
from stream.settings import Settings, WorkerSettings
from stream.topics import DEAD_LETTERS, LABELS, POSTS

if TYPE_CHECKING:
    from stream.app import TidegateApp


def load_scorer(settings: Settings) -> Scorer:
    """The scorer of `settings.models`.

    Raises:
        ModelError: it cannot be loaded, with the reason.
    """
    from stream.scoring import events_of, log_events, scorer_of

    scorer = scorer_of(settings.models)
    log_events(events_of(scorer))
    return scorer


def prepare(settings: Settings) -> Scorer | ScoringProcess:
    """What scores: a process with the scorer of `settings.models`, or the scorer itself.

    Raises:
        ModelError: it cannot be loaded, with the reason.
        ScoringProcessError: the process ended while it loaded it.
    """
    if not apart(settings.worker):
        return load_scorer(settings)
    from stream.logs import get_logger
    from stream.scoring import log_events

    process = ScoringProcess(settings)
    get_logger(__name__).info("scoring in a process beside this one", pid=process.pid)
    log_events(process.events)
    return process


def release(scores: Scorer | ScoringProcess) -> None:
    """End the process, where it is one."""
    if isinstance(scores, ScoringProcess):
        scores.close()


def apart(worker: WorkerSettings) -> bool:
    """Whether batches are computed in a process of their own."""
    if worker.scoring == "auto":
        return sys.platform != "win32" and available_threads() > 1
    return worker.scoring == "process"


def attach(app: TidegateApp) -> None:
    """Add the agent; what it lacks to score is prepared when it starts."""

    async def start() -> Flow:
        scorer = app.prepared
        if scorer is None:
            app.prepared = scorer = await asyncio.to_thread(prepare, app.settings)
        labels, dead_letters = app.full_name(LABELS), app.full_name(DEAD_LETTERS)
        if isinstance(scorer, ScoringProcess):
            await asyncio.to_thread(scorer.start, labels, dead_letters, app.limits)
            return app.flow_of(scorer, app.publisher(), watch=scorer.watch)
        pipeline = Pipeline(scorer, labels=labels, dead_letters=dead_letters)
        return app.new_flow(pipeline, instead=pipeline.instead_of)

    add_flow_agent(app, "label", start)


ROLE = Role(
    name="label",
    reads=(POSTS,),
    writes=(LABELS, DEAD_LETTERS),
    attach=attach,
    prepare=prepare,
    release=release,
)
