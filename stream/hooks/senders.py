"""What makes attempts: one sender per target, over HTTP, SMTP or a process.

The invariants: a sender never raises for what a target does, it gives a `Verdict`; no connection
is made to an address that was not looked at (`addresses`); no redirect is followed; TLS is
verified; every attempt ends within the target's `timeout_s`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp

from stream.errors import ConfigError
from stream.hooks.addresses import refusal, socket_factory
from stream.hooks.answer import network_error, refusal_words
from stream.hooks.credentials import Credentials, credentials_of
from stream.hooks.events import Event
from stream.hooks.formats.alertmanager import AlertmanagerFormat
from stream.hooks.formats.cloudevents import CloudEventsFormat
from stream.hooks.formats.discord import DiscordFormat
from stream.hooks.formats.pagerduty import PagerDutyFormat
from stream.hooks.formats.request import Format
from stream.hooks.formats.slack import SlackFormat
from stream.hooks.formats.webhook import WebhookFormat
from stream.hooks.load import url_problem
from stream.hooks.targets import (
    Alertmanager,
    CloudEvents,
    Command,
    Discord,
    Email,
    HttpTarget,
    PagerDuty,
    Slack,
    Target,
    Webhook,
)
from stream.hooks.verdict import Outcome, Verdict
from stream.kafka.client import reason_of

#: Of an answer's body so much is read; the rest is nobody's business.
_ANSWER_BYTES: Final = 4096
_RESOLVE_TIMEOUT_S: Final = 5.0


class Sender(Protocol):
    """Makes the attempts of one target."""

    async def send(self, events: Sequence[Event], at: datetime) -> Verdict:
        """One attempt; never raises for what the target does."""

    async def close(self) -> None:
        """Let go of its connections."""


def sender_of(name: str, target: Target, *, allow_private: bool) -> Sender:
    """The sender of a target, with its secrets read.

    Args:
        name: the target's.
        target: from the file.
        allow_private: the setting; the target may say otherwise.

    Raises:
        ConfigError: a secret is missing, or is not what it should be.
    """
    credentials = credentials_of(name, target)
    if isinstance(target, HttpTarget):
        return HttpSender(name, target, credentials, allow_private=allow_private)
    if isinstance(target, Email):
        from stream.hooks.smtp import MailSender

        return MailSender(name, target, credentials, allow_private=allow_private)
    from stream.hooks.process import CommandSender

    assert isinstance(target, Command)
    return CommandSender(target)


def format_of(target: HttpTarget, credentials: Credentials) -> Format:
    """The wire format of a target behind a URL."""
    match target:
        case Webhook():
            return WebhookFormat(target, credentials)
        case Slack():
            return SlackFormat(target, credentials)
        case Discord():
            return DiscordFormat(target, credentials)
        case PagerDuty():
            return PagerDutyFormat(target, credentials)
        case Alertmanager():
            return AlertmanagerFormat(target, credentials)
        case CloudEvents():
            return CloudEventsFormat(target, credentials)
        case _:
            raise AssertionError(target)


class HttpSender:
    """POSTs over one pool of connections.

    Args:
        name: the target's.
        target: from the file.
        credentials: its secrets.
        allow_private: the setting; the target may say otherwise.

    Raises:
        ConfigError: the URL, the authority's file or a header cannot be used.
    """

    def __init__(
        self, name: str, target: HttpTarget, credentials: Credentials, *, allow_private: bool
    ) -> None:
        own = target.allow_private
        self._allow_private = allow_private if own is None else own
        url = credentials.url or ""
        if (problem := url_problem(url, allow_http=self._allow_private)) is not None:
            raise ConfigError(f"the URL: {problem[0]}", where=f"hook `{name}`", hint=problem[1])
        self._host = urlsplit(url).hostname or ""
        self._timeout_s = target.timeout_s
        self._format = format_of(target, credentials)
        self._credentials = credentials
        self._context = tls_context(name, target.ca_file)
        self._connections = target.concurrency
        self._session: aiohttp.ClientSession | None = None

    async def send(self, events: Sequence[Event], at: datetime) -> Verdict:
        """One POST."""
        request = self._format.request(events, at)
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._started().post(
                    request.url, data=request.body, headers=request.headers, allow_redirects=False
                ) as response:
                    if 300 <= response.status < 400:
                        return await self._redirected(response, request.url)
                    body = await _beginning(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            error = network_error(exc, self._host, self._timeout_s)
            return Verdict(Outcome.FAILED, None, self._credentials.masked(error))
        verdict = self._format.verdict(response.status, response.headers, body)
        if verdict.error is None:
            return verdict
        return Verdict(
            verdict.outcome,
            verdict.status,
            self._credentials.masked(verdict.error),
            verdict.retry_after_s,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _started(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                ssl=self._context,
                # The last thing before a connection; a name that changes its mind gains nothing.
                socket_factory=socket_factory(allow_private=self._allow_private),
                # Every connection asks again: a receiver may move.
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "Tidegate-Hooks"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def _redirected(self, response: aiohttp.ClientResponse, url: str) -> Verdict:
        """Redirects are not followed; one into a network of ours is named, for it is an attack."""
        status = response.status
        error = f"HTTP {status}: redirects are not followed"
        try:
            host = urlsplit(urljoin(url, response.headers.get("Location", ""))).hostname
        except ValueError:
            host = None
        if host and not self._allow_private:
            with suppress(OSError, UnicodeError, TimeoutError):
                for address in await resolved(host):
                    if (reason := refusal(address)) is not None:
                        error += f", and this one leads to a private place: {refusal_words(host, address, reason)}"
                        break
        return Verdict(Outcome.FAILED, status, self._credentials.masked(error))


async def _beginning(response: aiohttp.ClientResponse) -> str:
    data = b""
    async for chunk in response.content.iter_chunked(_ANSWER_BYTES):
        data += chunk
        if len(data) >= _ANSWER_BYTES:
            break
    return data[:_ANSWER_BYTES].decode("utf-8", "replace")


async def resolved(host: str, port: int = 0) -> list[str]:
    """The addresses of a name, in the order in which they are tried.

    Raises:
        OSError: it does not resolve.
    """
    loop = asyncio.get_running_loop()
    found = await asyncio.wait_for(
        loop.getaddrinfo(host, port, type=socket.SOCK_STREAM), _RESOLVE_TIMEOUT_S
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def tls_context(name: str, ca_file: str | None) -> ssl.SSLContext:
    """Verifies certificates and names, against the system's authorities or the file's.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f"`ca_file` cannot be used: {reason_of(exc)}",
            where=f"hook `{name}`: {ca_file}",
            hint="it must be a PEM file with the authority's certificate",
        ) from exc


def now_utc() -> datetime:
    """The time of an attempt."""
    return datetime.now(UTC)
