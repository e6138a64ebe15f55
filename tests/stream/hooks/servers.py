"""Real local servers that behave badly, and the events and targets that meet them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stream.hooks.events import Event, Place
from stream.hooks.load import parse_targets
from stream.hooks.targets import Target
from stream.outcomes import Action, Alert, Decision, RuleMatch
from stream.records import Author, Post, encode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KEY = "whsec_" + "QUFB" * 8
OTHER_KEY = "whsec_" + "QkJC" * 8


def decision(number: int = 1, post: str = "p1", **fields: Any) -> Event:
    """A decision about a post, read at offset `number`."""
    text = fields.pop("text", "You are a nuisance")
    values: dict[str, Any] = {
        "schema": "tidegate.decision.v1",
        "decision_id": f"{post}@posts/0/{number}",
        "post_id": post,
        "action": Action.HIDE,
        "severity": "high",
        "reason": "reasonHarassment",
        "decided_at": "2026-11-22T10:00:00.000Z",
        "language": "en",
        "rules": [
            RuleMatch(
                id="insults", version="2", mode="live", action=Action.HIDE, severity="high",
                reason="reasonHarassment", score=0.97,
            )
        ],
        "post": Post(
            id=post, text=text, author=Author(id="u1", handle="ann"), url="https://x.test/1",
            meta={"raw": "x" * 100},
        ),
    }  # fmt: skip
    record = Decision(**(values | fields))
    return Event("decision", record, encode(record), Place("decisions", 0, number))


def alert(number: int = 1, state: str = "firing", **fields: Any) -> Event:
    """An alert, read at offset `number`."""
    values: dict[str, Any] = {
        "schema": "tidegate.alert.v1",
        "alert_id": "toxicity/tag=news/1",
        "rule": "toxicity",
        "kind": "threshold",
        "state": state,
        "severity": "critical",
        "summary": "Toxicity in tag news is 31 %",
        "started_at": "2026-11-22T10:00:00.000Z",
        "at": "2026-11-22T10:02:00.000Z",
        "group": {"tag": "news"},
        "observed": 0.31,
        "threshold": 0.2,
        "unit": "share of posts",
        "terms": ["nuisance"],
    }
    if state == "resolved":
        values["resolved_at"] = "2026-11-22T10:09:00.000Z"
    record = Alert(**(values | fields))
    return Event("alert", record, encode(record), Place("alerts", 0, number))


def target(text: str, *, allow_private: bool = True) -> Target:
    """One target from a YAML flow mapping: `{type: slack, ...}`."""
    return parse_targets(f"targets:\n  it: {text}\n", allow_private=allow_private)["it"]


@dataclass
class Server:
    """A server that keeps what it got; `answers` are given in turn, the last one for ever."""

    url: str = ""
    answers: list[Handler] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        number = min(len(self.requests), len(self.answers)) - 1
        return await self.answers[number](request)


def answering(status: int, body: str = "", **headers: str) -> Handler:
    """An answer; underscores in names of headers are hyphens."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=body, headers=named)

    return answer


async def slowly(_: web.Request) -> web.StreamResponse:
    """Never answers within a test's time limit."""
    await asyncio.sleep(3600)
    return web.Response()


async def hanging_up(request: web.Request) -> web.StreamResponse:
    """Closes the connection instead of an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def resetting(request: web.Request) -> web.StreamResponse:
    """Resets the connection (RST)."""
    assert request.transport is not None
    raw = request.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def serve(*answers: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port."""
    server = Server(answers=list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/hook/s3cr3t-path"
    try:
        yield server
    finally:
        await runner.cleanup()


def certificate(folder: Path, name: str = "IP:127.0.0.1,DNS:localhost") -> ssl.SSLContext:
    """A server's context whose certificate nobody has signed; `server.pem` is in the folder."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the PATH: apt-get install openssl")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost",
            "-addext", f"subjectAltName={name}",
        ],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@dataclass
class MailServer:
    """A small SMTP server: takes mails, or says what `refusals` says to a command."""

    port: int = 0
    mails: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    starttls: ssl.SSLContext | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)
        writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test ESMTP\r\n")
        while line := await reader.readline():
            command = line.decode().strip()
            self.commands.append(command)
            word = command.split(" ")[0].split(":")[0].upper()
            if word in self.refusals:
                writer.write(f"{self.refusals[word]}\r\n".encode())
            elif word == "EHLO":
                offers = b"250-STARTTLS\r\n" if self.starttls else b""
                writer.write(b"250-test\r\n" + offers + b"250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
            elif word == "STARTTLS" and self.starttls:
                writer.write(b"220 go on\r\n")
                await writer.start_tls(self.starttls)
                self.starttls = None
            elif word == "AUTH":
                writer.write(b"235 welcome\r\n")
            elif word == "DATA":
                writer.write(b"354 go on\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append(data.decode())
                writer.write(b"250 taken\r\n")
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"250 ok\r\n")


@contextlib.asynccontextmanager
async def serve_mail(tls: ssl.SSLContext | None = None, **fields: Any) -> AsyncIterator[MailServer]:
    """An SMTP server on a free port."""
    mail = MailServer(**fields)
    server = await asyncio.start_server(mail.handle, "127.0.0.1", 0, ssl=tls)
    mail.port = server.sockets[0].getsockname()[1]
    try:
        yield mail
    finally:
        server.close()
        # A handshake that failed is taken down by callbacks that are still to run.
        await asyncio.sleep(0.05)
