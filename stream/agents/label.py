"""The role `label`: posts in, labels out. What a label is stands in `stream.pipeline`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from models.scores import Scorer
from stream.agents.flowing import add_flow_agent
from stream.flow import Flow
from stream.pipeline import Pipeline
from stream.roles import Role
from stream.settings import Settings
from stream.topics import DEAD_LETTERS, LABELS, POSTS

if TYPE_CHECKING:
    from stream.app import TidegateApp


def load_scorer(settings: Settings) -> Scorer:
    """The scorer of `settings.models`.

    Raises:
        ModelError: it cannot be loaded, with the reason.
    """
    from stream.scoring import log_models, scorer_of

    scorer = scorer_of(settings.models)
    log_models(scorer)
    return scorer


def attach(app: TidegateApp) -> None:
    """Add the agent; without a prepared scorer it loads the one of the settings when it starts."""

    async def start() -> Flow:
        scorer = app.prepared
        if scorer is None:
            app.prepared = scorer = await asyncio.to_thread(load_scorer, app.settings)
        pipeline = Pipeline(
            scorer, labels=app.full_name(LABELS), dead_letters=app.full_name(DEAD_LETTERS)
        )
        return app.new_flow(pipeline, instead=pipeline.instead_of, lanes=scorer.lanes)

    add_flow_agent(app, "label", start)


ROLE = Role(
    name="label",
    reads=(POSTS,),
    writes=(LABELS, DEAD_LETTERS),
    attach=attach,
    prepare=load_scorer,
)
