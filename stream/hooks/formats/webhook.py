"""Standard Webhooks: one signed POST for each record.

The id is the same over every attempt, the timestamp is the attempt's, and there is a signature
for each key, so that a receiver can change its key while nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from standardwebhooks import Webhook as Signer

from stream.hooks.credentials import Credentials
from stream.hooks.events import Event, data_of
from stream.hooks.formats.request import Request
from stream.hooks.targets import Webhook
from stream.hooks.verdict import Verdict, verdict_of_http


def body_of(event: Event, most_bytes: int, *, thin: bool) -> dict[str, Any]:
    """The body of an event: type, time, data; the same for every attempt."""
    body = {
        "type": event.type,
        "timestamp": event.at,
        "data": data_of(event, most_bytes - 256, thin=thin),
    }
    return body | {"test": True} if event.kind == "test" else body


def signatures(keys: Sequence[str], message_id: str, at: datetime, body: str) -> str:
    """The value of `webhook-signature`: one signature for each key."""
    # The library takes the time for one without a zone, and puts UTC on it.
    moment = at.astimezone(UTC).replace(tzinfo=None)
    return " ".join(Signer(key).sign(message_id, moment, body) for key in keys)


class WebhookFormat:
    """Requests of a `webhook` target."""

    def __init__(self, target: Webhook, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials

    def request(self, events: Sequence[Event], at: datetime) -> Request:
        """The request of one attempt."""
        (event,) = events
        thin = self._target.content == "thin"
        body = msgspec.json.encode(body_of(event, self._target.max_bytes, thin=thin))
        keys = self._credentials.keys
        headers = {
            **self._target.headers,
            "content-type": "application/json",
            "webhook-id": event.message_id,
            "webhook-timestamp": str(int(at.timestamp())),
        }
        if keys:
            headers["webhook-signature"] = signatures(keys, event.message_id, at, body.decode())
        return Request(self._credentials.url or "", body, headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """Any 2xx is a yes."""
        return verdict_of_http(status, headers, body)
