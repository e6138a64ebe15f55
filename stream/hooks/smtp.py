"""Mail over SMTP, to an address that was looked at before the connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import aiosmtplib

from stream.errors import ConfigError
from stream.hooks.addresses import socket_factory
from stream.hooks.answer import network_error
from stream.hooks.credentials import Credentials
from stream.hooks.events import Event
from stream.hooks.formats.mail import MailFormat
from stream.hooks.senders import tls_context
from stream.hooks.targets import Email
from stream.hooks.verdict import Outcome, Verdict

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
#: Permanent answers about the mail itself. Others (a log-in, a greylist) may pass.
_REFUSED_CODES: Final = frozenset({501, 550, 551, 552, 553, 554})
_SHOWN_CHARS: Final = 200


class MailSender:
    """Mails, a connection for each: they are few, and servers close what idles.

    Args:
        name: the target's.
        target: from the file.
        credentials: its password.
        allow_private: the setting; the target may say otherwise.
    """

    def __init__(
        self, name: str, target: Email, credentials: Credentials, *, allow_private: bool
    ) -> None:
        if target.username and credentials.token is None:
            raise ConfigError(
                "`username` is set, and there is no `password_env` or `password_file`",
                where=f"hook `{name}`",
            )
        own = target.allow_private
        self._make_socket = socket_factory(allow_private=allow_private if own is None else own)
        self._target = target
        self._credentials = credentials
        self._port = target.port or _PORTS[target.security]
        self._format = MailFormat(target)
        self._context = tls_context(name, target.ca_file)

    async def send(self, events: Sequence[Event], at: datetime) -> Verdict:
        """One mail."""
        target = self._target
        try:
            async with asyncio.timeout(target.timeout_s):
                connection = await self._connected()
                client = aiosmtplib.SMTP(
                    hostname=target.host,
                    sock=connection,
                    use_tls=target.security == "tls",
                    start_tls=target.security == "starttls",
                    tls_context=None if target.security == "none" else self._context,
                    username=target.username,
                    password=self._credentials.token if target.username else None,
                    timeout=target.timeout_s,
                )
                try:
                    async with client:
                        refused, _ = await client.send_message(self._format.mail(events, at))
                finally:
                    client.close()
                    connection.close()
        except aiosmtplib.SMTPRecipientsRefused as exc:
            return self._answered(exc.recipients[0].code, exc.recipients[0].message)
        except aiosmtplib.SMTPResponseException as exc:
            return self._answered(exc.code, exc.message)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
            error = network_error(exc, target.host, target.timeout_s)
            return Verdict(Outcome.FAILED, None, self._credentials.masked(error))
        if refused:
            # Some got it: sending it again would reach those twice.
            return Verdict(
                Outcome.DELIVERED, 250, f"refused for {len(refused)} of {len(target.to)} recipients"
            )
        return Verdict(Outcome.DELIVERED, 250)

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _connected(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._target.host, self._port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for entry in found:
            connection = None
            try:
                connection = self._make_socket(entry)
                connection.setblocking(False)
                await loop.sock_connect(connection, entry[4])
            except OSError as exc:
                failure = exc
                if connection is not None:
                    connection.close()
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
            else:
                return connection
        assert failure is not None  # a name that resolves has an address
        raise failure

    def _answered(self, code: int, message: str) -> Verdict:
        shown = " ".join(str(message).split())[:_SHOWN_CHARS]
        error = self._credentials.masked(f"SMTP {code}: {shown}")
        outcome = Outcome.REFUSED if code in _REFUSED_CODES else Outcome.FAILED
        return Verdict(outcome, code, error)
