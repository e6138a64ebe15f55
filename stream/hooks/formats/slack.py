"""Slack's incoming webhooks: a message of blocks; nothing in it rings, links or formats by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from stream.hooks.credentials import Credentials
from stream.hooks.escaping import cut, for_slack
from stream.hooks.events import Event
from stream.hooks.formats.request import Request
from stream.hooks.targets import Slack
from stream.hooks.templates import Texts
from stream.hooks.verdict import Outcome, Verdict, verdict_of_http

#: Slack's limit for the text of a section.
_SECTION_CHARS: Final = 3000
_TITLE_CHARS: Final = 300
_FALLBACK_CHARS: Final = 2000
#: Answers about the webhook and not about the message: another attempt may find it mended.
_TARGET_STATUSES: Final = frozenset({401, 403, 404})


class SlackFormat:
    """Requests of a `slack` target."""

    def __init__(self, target: Slack, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials
        self._texts = Texts(target.template, for_slack)

    def request(self, events: Sequence[Event], at: datetime) -> Request:  # noqa: ARG002 - the protocol's
        """One message for all of the events."""
        blocks: list[dict[str, Any]] = []
        titles = []
        for event in events:
            message = self._texts.message(event)
            title = cut(message.title, _TITLE_CHARS, for_slack)
            text = cut(message.text, _SECTION_CHARS - _TITLE_CHARS - 8, for_slack)
            titles.append(title)
            if blocks:
                blocks.append({"type": "divider"})
            words = f"*{title}*\n{text}".strip() if title else text or "-"
            section = {"type": "mrkdwn", "text": words, "verbatim": True}
            blocks.append({"type": "section", "text": section})
        body = {
            "text": cut("\n".join(titles) or "-", _FALLBACK_CHARS, for_slack),
            "blocks": blocks,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        headers = {**self._target.headers, "content-type": "application/json"}
        return Request(self._credentials.url or "", msgspec.json.encode(body), headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """200 with `ok` is a yes, and nothing else."""
        found = verdict_of_http(status, headers, body, taken_body="ok")
        if status in _TARGET_STATUSES:
            return Verdict(Outcome.FAILED, status, found.error)
        return found
