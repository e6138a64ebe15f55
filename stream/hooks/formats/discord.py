"""Discord's webhooks: a message of embeds that mentions nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from yarl import URL

from stream.hooks.credentials import Credentials
from stream.hooks.escaping import cut, for_discord
from stream.hooks.events import Event
from stream.hooks.formats.request import Request
from stream.hooks.targets import Discord
from stream.hooks.templates import Texts
from stream.hooks.verdict import Outcome, Verdict, verdict_of_http
from stream.outcomes import Severity

_TITLE_CHARS: Final = 256
_DESCRIPTION_CHARS: Final = 4096
#: Over all embeds of a message; some room is left for what Discord counts besides.
_MESSAGE_CHARS: Final = 5900
_COLOURS: Final[dict[Severity, int]] = {
    "info": 0x5B8DEF,
    "low": 0x7BB661,
    "medium": 0xE3B341,
    "high": 0xE8743B,
    "critical": 0xD64545,
}


class DiscordFormat:
    """Requests of a `discord` target."""

    def __init__(self, target: Discord, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials
        self._texts = Texts(target.template, for_discord)

    def request(self, events: Sequence[Event], at: datetime) -> Request:  # noqa: ARG002 - the protocol's
        """One message, an embed for each event."""
        share = _MESSAGE_CHARS // len(events)
        embeds = []
        for event in events:
            message = self._texts.message(event)
            title = cut(message.title, min(_TITLE_CHARS, share // 4), for_discord)
            room = min(_DESCRIPTION_CHARS, share - len(title))
            embed: dict[str, Any] = {
                "title": title or "-",
                "color": _COLOURS[event.record.severity],
                "timestamp": event.at,
            }
            if message.text:
                embed["description"] = cut(message.text, room, for_discord)
            embeds.append(embed)
        body = {"embeds": embeds, "allowed_mentions": {"parse": []}}
        url = str(URL(self._credentials.url or "").update_query(wait="true"))
        headers = {**self._target.headers, "content-type": "application/json"}
        return Request(url, msgspec.json.encode(body), headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """Any 2xx; a 429 tells fractions of a second in its body."""
        found = verdict_of_http(status, headers, body)
        if found.outcome is Outcome.SLOW_DOWN:
            try:
                wait_s = float(json.loads(body)["retry_after"])
            except (ValueError, KeyError, TypeError):
                return found
            wait_s = max(0.0, min(wait_s, 86_400.0), found.retry_after_s or 0.0)
            return Verdict(found.outcome, status, found.error, wait_s)
        return found
