"""What is told of targets: where they lead, how far behind they are, whether a test reaches them."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from stream.errors import TidegateError
from stream.hooks.credentials import credentials_of, shown_url
from stream.hooks.events import sample_events
from stream.hooks.filters import Filter
from stream.hooks.senders import now_utc, sender_of
from stream.hooks.targets import Command, Email, Target, kind_of
from stream.kafka.admin import open_admin
from stream.records import rfc3339
from stream.roles import Duty, group_of
from stream.settings import Settings
from stream.topics import ALERTS, DECISIONS


def described(name: str, target: Target, lag: int | None) -> dict[str, Any]:
    """A target as `hooks list` shows it: its URL by the host, and what is wrong with its secrets."""
    problem = None
    url = None
    try:
        url = credentials_of(name, target).url
    except TidegateError as exc:
        problem = exc.message
    if isinstance(target, Email):
        to = f"{', '.join(target.to)} via {target.host}"
    elif isinstance(target, Command):
        to = target.command[0]
    else:
        to = "" if url is None else shown_url(url)
    return {
        "name": name,
        "type": kind_of(target),
        "enabled": target.enabled,
        "to": to,
        "records": list(target.records),
        "filter": _filter_of(target),
        "lag": lag,
        "problem": problem,
    }


def _filter_of(target: Target) -> dict[str, Any]:

    given: dict[str, Any] = msgspec.to_builtins(target.filter)
    default = msgspec.to_builtins(Filter())
    return {name: value for name, value in given.items() if value != default[name]}


def lags_of(settings: Settings, targets: dict[str, Target]) -> dict[str, int]:
    """How many records each target is behind, by name.

    Raises:
        BrokerError: the broker does not answer.
    """
    topics = {"decisions": DECISIONS, "alerts": ALERTS}
    with open_admin(settings.kafka) as admin:
        return {
            name: admin.lag(
                group_of(settings, Duty("hooks", name)), [topics[each] for each in target.records]
            ).lag
            for name, target in targets.items()
        }


async def send_samples(
    settings: Settings, name: str, target: Target, *, alert: bool
) -> list[dict[str, Any]]:
    """Send a made-up decision, or an alert that fires and resolves; what came back, for `--json`.

    Raises:
        ConfigError: a secret is missing.
    """
    decision, firing, resolved = sample_events(rfc3339(time.time_ns() // 1_000_000))
    sender = sender_of(name, target, allow_private=settings.hooks.allow_private)
    rows = []
    try:
        for event in [firing, resolved] if alert else [decision]:
            begun = time.monotonic()
            verdict = await sender.send([event], now_utc())
            rows.append(
                {
                    "id": event.message_id,
                    "type": event.type,
                    "outcome": str(verdict.outcome),
                    "status": verdict.status,
                    "error": verdict.error,
                    "elapsed_ms": int((time.monotonic() - begun) * 1000),
                }
            )
    finally:
        await sender.close()
    return rows
