"""From what goes wrong on the network to words, without a URL, a secret or a post in them."""

from __future__ import annotations

import socket
import ssl
from typing import TypeVar

import aiohttp

from stream.hooks.addresses import AddressRefusedError
from stream.kafka.client import reason_of

_E = TypeVar("_E", bound=BaseException)


def network_error(exc: BaseException, host: str, timeout_s: float) -> str:
    """What went wrong on the way to `host`."""
    if (refused := _caused_by(exc, AddressRefusedError)) is not None:
        return refusal_words(host, refused.address, refused.reason)
    if isinstance(exc, TimeoutError):
        return f"`{host}` gave no answer within {timeout_s:g} s"
    if (bad := _caused_by(exc, ssl.SSLCertVerificationError)) is not None:
        reason = getattr(bad, "verify_message", "") or "verification failed"
        return f"the certificate of `{host}` is not trusted: {reason.rstrip('.')}"
    if _caused_by(exc, socket.gaierror) is not None:
        return f"the name `{host}` does not resolve"
    return _later_error(exc, host)


def _later_error(exc: BaseException, host: str) -> str:
    """What goes wrong once the address is known."""
    if _caused_by(exc, ssl.SSLError) is not None:
        return f"no TLS with `{host}`"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return f"`{host}` closed the connection without an answer"
    if isinstance(exc, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return f"`{host}` gave an answer that is not HTTP"
    system = _caused_by(exc, OSError)
    reason = reason_of(system) if system is not None and system.strerror else type(exc).__name__
    return f"no connection to `{host}`: {reason}"


def refusal_words(host: str, address: str, reason: str) -> str:
    """Why a name or an address is not connected to."""
    named = f"`{host}` is {address}" if host != address else f"`{host}`"
    return f"{named}, {reason}: hooks send nothing there unless `allow_private` is set"


def _caused_by(exc: BaseException | None, kind: type[_E]) -> _E | None:
    """The first of a kind in a chain of errors."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, kind):
            return exc
        seen.add(id(exc))
        exc = getattr(exc, "os_error", None) or exc.__cause__ or exc.__context__
    return None
