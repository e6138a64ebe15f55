"""CloudEvents 1.0 over HTTP: structured, binary, or in batches where the receiver asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from stream.hooks.credentials import Credentials
from stream.hooks.events import Event, data_of
from stream.hooks.formats.request import Request
from stream.hooks.targets import CloudEvents
from stream.hooks.verdict import Verdict, verdict_of_http

#: Printable ASCII that may stand in a header as it is: not the space, `"` and `%`.
_AS_IT_IS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class CloudEventsFormat:
    """Requests of a `cloudevents` target."""

    def __init__(self, target: CloudEvents, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials

    def request(self, events: Sequence[Event], at: datetime) -> Request:  # noqa: ARG002 - the protocol's
        """The request in the target's mode."""
        headers = dict(self._target.headers)
        if self._credentials.token:
            headers["authorization"] = f"Bearer {self._credentials.token}"
        url = self._credentials.url or ""
        if self._target.mode == "binary":
            (event,) = events
            headers |= {
                f"ce-{name}": quote(value, safe=_AS_IT_IS)
                for name, value in self._attributes(event).items()
            }
            headers["content-type"] = "application/json"
            return Request(url, msgspec.json.encode(self._data(event)), headers)
        bodies = [
            {
                **self._attributes(event),
                "datacontenttype": "application/json",
                "data": self._data(event),
            }
            for event in events
        ]
        batched = self._target.mode == "batched"
        form = "cloudevents-batch" if batched else "cloudevents"
        headers["content-type"] = f"application/{form}+json; charset=utf-8"
        return Request(url, msgspec.json.encode(bodies if batched else bodies[0]), headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """Any 2xx is a yes."""
        return verdict_of_http(status, headers, body)

    def _data(self, event: Event) -> dict[str, Any]:
        return data_of(event, self._target.max_bytes, thin=self._target.content == "thin")

    def _attributes(self, event: Event) -> dict[str, str]:
        attributes = {
            "specversion": "1.0",
            "id": event.message_id,
            "source": self._target.source,
            "type": f"tidegate.{event.type}",
            "time": event.at,
        }
        if event.subject:
            attributes["subject"] = event.subject
        return attributes
