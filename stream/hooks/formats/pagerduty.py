"""PagerDuty's Events API v2: an alert triggers an incident and resolves it under one `dedup_key`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from stream.hooks.credentials import Credentials
from stream.hooks.escaping import cut, for_people, one_line
from stream.hooks.events import Event
from stream.hooks.formats.request import Request
from stream.hooks.targets import PagerDuty
from stream.hooks.templates import Texts
from stream.hooks.verdict import Outcome, Verdict, verdict_of_http
from stream.outcomes import Action, Alert, Severity

_SUMMARY_CHARS: Final = 1024
_DETAIL_CHARS: Final = 2000
_DEDUP_CHARS: Final = 255
_SEVERITIES: Final[dict[Severity, str]] = {
    "info": "info",
    "low": "info",
    "medium": "warning",
    "high": "error",
    "critical": "critical",
}
#: Only a 400 is about the event itself; the rest may pass.
_TARGET_STATUSES: Final = frozenset({401, 403, 404, 422})


class PagerDutyFormat:
    """Requests of a `pagerduty` target."""

    def __init__(self, target: PagerDuty, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials
        self._texts = Texts(target.template, for_people)

    def request(self, events: Sequence[Event], at: datetime) -> Request:  # noqa: ARG002 - the protocol's
        """Trigger or resolve."""
        (event,) = events
        body: dict[str, Any] = {
            "routing_key": self._credentials.token,
            "event_action": "resolve" if _is_over(event) else "trigger",
            "dedup_key": dedup_key(event),
        }
        if not _is_over(event):
            message = self._texts.message(event)
            body |= {
                "client": "Tidegate",
                "payload": {
                    "summary": cut(one_line(message.title), _SUMMARY_CHARS) or "-",
                    "source": "tidegate",
                    "severity": _SEVERITIES[event.record.severity],
                    "timestamp": event.at,
                    "class": event.type,
                    "component": _rule(event),
                    "custom_details": {
                        "text": cut(message.text, _DETAIL_CHARS),
                        "id": event.record_id,
                    },
                },
            }
            link = getattr(getattr(event.record, "post", None), "url", None)
            if link:
                body["links"] = [{"href": one_line(link), "text": "post"}]
        headers = {**self._target.headers, "content-type": "application/json"}
        return Request(self._credentials.url or "", msgspec.json.encode(body), headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """202; a 400 will not get better."""
        found = verdict_of_http(status, headers, body)
        if status in _TARGET_STATUSES:
            return Verdict(Outcome.FAILED, status, found.error)
        return found


def dedup_key(event: Event) -> str:
    """What trigger and resolve of one episode share: the alert's id, or the post's."""
    kind = "alert" if isinstance(event.record, Alert) else "post"
    key = f"tidegate/{kind}/{event.subject}"
    if len(key) <= _DEDUP_CHARS and key.isprintable():
        return key
    digest = hashlib.blake2b(event.subject.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"tidegate/{kind}/{digest.hexdigest()}"


def _is_over(event: Event) -> bool:
    record = event.record
    if isinstance(record, Alert):
        return record.state == "resolved"
    return record.retracted or record.action is Action.ALLOW


def _rule(event: Event) -> str:
    record = event.record
    if isinstance(record, Alert):
        return one_line(record.rule)
    return ", ".join(one_line(rule.id) for rule in record.rules if rule.mode == "live")
