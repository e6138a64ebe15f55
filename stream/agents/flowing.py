"""An agent that hands the records of its topics to a flow: the loop of every role with one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from stream.flow import Flow

if TYPE_CHECKING:
    from stream.app import TidegateApp


def add_flow_agent(app: TidegateApp, name: str, start_flow: Callable[[], Awaitable[Flow]]) -> Any:
    """Add the agent to the app.

    Args:
        app: the app of a role that reads in batches.
        name: of the agent.
        start_flow: makes the flow (`app.new_flow`) when the agent starts; what it loads may take
            a moment, in a thread.
    """

    @app.agent(app.inputs, name=name)
    async def flowing(stream: Any) -> None:
        await app.learn_limits()
        flow = await start_flow()
        unacknowledged = stream.noack()
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.run())
            async for event in unacknowledged.events():
                flow.put(event.value)
                # For Faust's sensors; offsets are committed from the ledger alone.
                await unacknowledged.ack(event)

    return flowing
