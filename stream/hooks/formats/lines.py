"""What a command reads on its standard input: a line of JSON for each record."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.hooks.events import Event
from stream.hooks.formats.webhook import body_of
from stream.hooks.targets import Command


def lines_of(target: Command, events: Sequence[Event]) -> bytes:
    """The lines; each is the body that a webhook gets, with the id it carries in a header there."""
    thin = target.content == "thin"
    bodies = (
        {"id": event.message_id, **body_of(event, target.max_bytes, thin=thin)} for event in events
    )
    return b"".join(msgspec.json.encode(body) + b"\n" for body in bodies)
