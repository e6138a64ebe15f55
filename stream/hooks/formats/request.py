"""What a format gives to the transport, and what the transport asks it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from stream.hooks.events import Event
from stream.hooks.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Request:
    """A POST."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Format(Protocol):
    """One kind of target behind a URL."""

    def request(self, events: Sequence[Event], at: datetime) -> Request:
        """The request of one attempt, made at `at`; the same events give the same ids."""

    def verdict(self, status: int, headers: Mapping[str, str], body: str) -> Verdict:
        """What the target's answer means."""
