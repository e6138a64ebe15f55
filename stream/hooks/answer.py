"""From what goes wrong on the network to words, without a URL, a secret or a post in them."""

from __future__ import annotations

import os
import socket
import ssl
from typing import TypeVar

import aiohttp

from stream.hooks.addresses import AddressRefusedError

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
    if isinstance(exc, aiohttp.InvalidURL):
        return f"`{host}` is no name of a host"
    system = _caused_by(exc, OSError)
    if system is not None and system.errno:
        reason = os.strerror(system.errno).lower()
    else:
        reason = type(exc).__name__
    return f"no connection to `{host}`: {reason}"


def refusal_words(host: str, address: str, reason: str) -> str:
    """Why a name or an address is not connected to."""
    named = f"`{host}` is {address}" if host != address else f"`{host}`"
    return f"{named}, {reason}: hooks send nothing there unless `allow_private` is set"


def _caused_by(exc: BaseException | None, kind: type[_E]) -> _E | None:
    """The innermost of a kind in a chain of errors: aiohttp wraps what the system said."""
    found: _E | None = None
    for _ in range(10):
        if exc is None:
            break
        if isinstance(exc, kind):
            found = exc
        inner = getattr(exc, "certificate_error", None) or getattr(exc, "os_error", None)
        exc = inner if isinstance(inner, BaseException) else exc.__cause__
    return found
