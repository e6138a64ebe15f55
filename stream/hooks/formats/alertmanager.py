"""Prometheus Alertmanager, API v2: alerts as label sets, sent again for as long as they fire.

Alertmanager forgets an alert that nobody repeats: `endsAt` of one that fires lies a few
repetitions ahead, so that a lost repetition, or a restart of ours, resolves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from stream.hooks.credentials import Credentials
from stream.hooks.escaping import cut, for_people, one_line
from stream.hooks.events import Event
from stream.hooks.formats.request import Request
from stream.hooks.targets import Alertmanager
from stream.hooks.templates import Texts
from stream.hooks.verdict import Verdict, verdict_of_http
from stream.outcomes import Alert

#: As Prometheus does: an alert outlives three repetitions that did not arrive.
_REPETITIONS: Final = 4
_ANNOTATION_CHARS: Final = 4000


class AlertmanagerFormat:
    """Requests of an `alertmanager` target."""

    def __init__(self, target: Alertmanager, credentials: Credentials) -> None:
        self._target = target
        self._credentials = credentials
        self._texts = Texts(target.template, for_people)

    def request(self, events: Sequence[Event], at: datetime) -> Request:
        """One list of alerts."""
        body = [self._alert(event, at) for event in events if isinstance(event.record, Alert)]
        url = (self._credentials.url or "").rstrip("/")
        if not url.endswith("/api/v2/alerts"):
            url += "/api/v2/alerts"
        headers = {**self._target.headers, "content-type": "application/json"}
        if self._credentials.token:
            headers["authorization"] = f"Bearer {self._credentials.token}"
        return Request(url, msgspec.json.encode(body), headers)

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """Any 2xx is a yes."""
        return verdict_of_http(status, headers, body)

    def _alert(self, event: Event, at: datetime) -> dict[str, Any]:
        alert = event.record
        assert isinstance(alert, Alert)
        message = self._texts.message(event)
        if alert.state == "resolved":
            ends_at = alert.resolved_at or alert.at
        else:
            ahead = timedelta(seconds=_REPETITIONS * self._target.resend_s)
            ends_at = f"{at.astimezone(UTC) + ahead:%Y-%m-%dT%H:%M:%S}Z"
        return {
            "labels": labels_of(alert, self._target.labels),
            "annotations": {
                "summary": cut(one_line(message.title), _ANNOTATION_CHARS),
                "description": cut(message.text, _ANNOTATION_CHARS),
                "alert_id": one_line(alert.alert_id),
            },
            "startsAt": alert.started_at,
            "endsAt": ends_at,
        }


def labels_of(alert: Alert, more: Mapping[str, str]) -> dict[str, str]:
    """What the alert is to Alertmanager; the same for every record of an episode."""
    group = {_label_name(name): one_line(value) for name, value in alert.group.items()}
    own = {
        "alertname": one_line(alert.rule),
        "severity": alert.severity,
        "kind": alert.kind,
        "service": "tidegate",
    }
    # Labels without a value are no labels to Alertmanager.
    return {name: value for name, value in {**group, **own, **more}.items() if value}


def _label_name(name: str) -> str:
    cleaned = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return cleaned if re.match(r"[a-zA-Z_]", cleaned) else f"_{cleaned}"
