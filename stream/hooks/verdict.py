"""What came of one attempt: delivered, to be tried again, refused for good, or the target is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stream.hooks.schedule import retry_after_s

#: Of a target's answer, so much goes into the delivery log.
_SHOWN_CHARS: Final = 200
_TOO_MANY: Final = 429
_GONE: Final = 410
#: The message itself is wrong: the same bytes will be refused again.
_REFUSED: Final = frozenset({400, 413, 422})


class Outcome(StrEnum):
    """What an attempt means for the record and its target."""

    DELIVERED = "delivered"
    #: The target failed, or could not be reached: again, on the schedule.
    FAILED = "failed"
    #: The target asks for patience: nothing more for it until then.
    SLOW_DOWN = "slow-down"
    #: The message is not taken, whenever it is sent.
    REFUSED = "refused"
    #: The target is no more and wants nothing more.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one attempt.

    `error` is a sentence for the delivery log; `status` is HTTP's, SMTP's or a command's exit code.
    """

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None


def verdict_of_http(
    status: int, headers: Mapping[str, str], body: str, *, taken_body: str | None = None
) -> Verdict:
    """What an HTTP answer means.

    Args:
        status: the status code.
        headers: by name, case-insensitive as aiohttp gives them.
        body: the beginning of the answer's body.
        taken_body: the only body that means success, where a target's 200 can be a refusal.
    """
    shown = _visible(body)
    said = f"HTTP {status}" + (f": {shown}" if shown else "")
    if 200 <= status < 300:
        if taken_body is not None and body.strip() != taken_body:
            return Verdict(Outcome.REFUSED, status, f"{said} (expected `{taken_body}`)")
        return Verdict(Outcome.DELIVERED, status)
    if status == _GONE:
        return Verdict(Outcome.GONE, status, said)
    wait_s = retry_after_s(headers.get("Retry-After"))
    if status == _TOO_MANY or (status == 503 and wait_s is not None):
        return Verdict(Outcome.SLOW_DOWN, status, said, wait_s)
    if status in _REFUSED:
        return Verdict(Outcome.REFUSED, status, said)
    return Verdict(Outcome.FAILED, status, said, wait_s)


def _visible(text: str) -> str:
    one_line = " ".join(text.split())
    return "".join(c if c.isprintable() else "�" for c in one_line[:_SHOWN_CHARS])
