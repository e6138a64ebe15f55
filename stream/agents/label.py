"""The `label` agent: posts in, labels out. What a label is stands in `stream.pipeline`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stream.flow import Flow

__all__ = ["add_label_agent"]


def add_label_agent(app: Any, posts: Any, start_flow: Callable[[], Awaitable[Flow]]) -> Any:
    """Add the agent to a Faust app.

    Args:
        app: the app; its transport reads `posts` in batches.
        posts: the topic.
        start_flow: makes the flow when the agent starts; loading models takes a moment.
    """

    @app.agent(posts, name="label")  # type: ignore[untyped-decorator] # Faust's is not typed
    async def label(stream: Any) -> None:
        flow = await start_flow()
        unacknowledged = stream.noack()
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.run())
            async for event in unacknowledged.events():
                flow.put(event.value)
                # For Faust's sensors; offsets are committed from the ledger alone.
                await unacknowledged.ack(event)

    return label
