"""Mistakes and failures of hooks, provoked."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stream.hooks.addresses import AddressRefusedError, refusal
from stream.hooks.answer import network_error
from stream.hooks.beginning import _begin
from stream.hooks.credentials import credentials_of
from stream.hooks.follow import new_deliveries
from stream.hooks.load import load_targets
from stream.hooks.replay import _Log
from stream.hooks.senders import now_utc, sender_of
from stream.hooks.verdict import verdict_of_http
from stream.outcomes import Delivery
from stream.settings import HookSettings
from tests.stream.hooks.servers import decision, target
from tests.stream.message_cases import Case, Place, case, command, impatient

_WEBHOOK = "{type: webhook, url: 'https://x.test', secret_env: K}"
_SLACK = "{type: slack, url_env: U}"


def _secret(text: str, **environ: str) -> Case:
    return lambda _: credentials_of("it", target(text), environ)


case("hooks: a variable is not set")(_secret(_SLACK))
case("hooks: no signing key")(_secret(_WEBHOOK, K="hunter2hunter2"))
case("hooks: a short signing key")(_secret(_WEBHOOK, K="whsec_aHVudGVyMg=="))
case("hooks: a file of a secret is not there")(_secret("{type: slack, url_file: /nowhere}"))


@case("hooks: a file of a secret is empty")
def _(place: Place) -> None:
    path = place.file("secret", " \n")
    credentials_of("it", target(f"{{type: slack, url_file: {path}}}"))


@case("hooks: a file of a secret is no text")
def _(place: Place) -> None:
    path = place.file("secret", b"\xff\xfe")
    credentials_of("it", target(f"{{type: slack, url_file: {path}}}"))


def _targets(path: Path) -> Any:
    return load_targets(HookSettings(path=path))  # type: ignore[call-arg]


case("hooks: no file")(lambda place: _targets(place.folder / "none.yaml"))
case("hooks: not UTF-8")(lambda place: _targets(place.file("h.yaml", b"\xff\xfe")))
case("hooks: a huge file")(lambda place: _targets(place.file("h.yaml", b"#" * 1_000_001)))


def _sender(text: str, url: str = "https://x.test/hook") -> Case:
    def run(_: Place) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("U", url)
            sender_of("it", target(text), allow_private=False)

    return run


case("hooks: a URL of the environment is none")(_sender(_SLACK, "example.org/hook"))
case("hooks: a URL of the environment is open to all")(_sender(_SLACK, "http://x.test/s3cr3t"))
case("hooks: no authority")(_sender("{type: slack, url_env: U, ca_file: /nowhere.pem}"))
case("hooks: a name without a password")(
    _sender("{type: email, host: x.test, sender: a@x.test, to: [b@x.test], username: a}")
)
case("hooks test: no such target")(command("hooks", "test", "it"))


@case("hooks test: almost such a target")
def _(place: Place) -> None:
    place.file("hooks.yaml", "targets: {slack: {type: slack, url_env: U}}\n")
    command("hooks", "test", "slak", "--hooks", "FOLDER/hooks.yaml")(place)


@case("hooks log: nobody answers")
def _(place: Place) -> None:
    with impatient(), closing(new_deliveries(place.nothing, lambda _: True)) as log:  # type: ignore[type-var] # a generator
        next(log)


@case("hooks replay: nobody answers")
def _(place: Place) -> None:
    async def run() -> None:
        log = _Log(place.nothing, "it")
        try:
            await log.start()
        finally:
            await log.stop()

    asyncio.run(run())


@case("hooks replay: the log does not take it")
def _(place: Place) -> None:
    delivery = Delivery(
        schema="tidegate.delivery.v1",
        delivery_id="it/decisions/0/1#1",
        target="it",
        kind="decision",
        record_id="p1@posts/0/1",
        state="failed",
        attempt=1,
        at="2026-11-22T10:00:00.000Z",
        original=b"x" * 2_000_000,
    )

    async def run() -> None:
        log = _Log(place.kafka, "it")
        await log.start()
        try:
            await log.write([delivery])
        finally:
            await log.stop()

    asyncio.run(run())


@case("hooks: where a target begins cannot be committed")
def _(place: Place) -> None:
    with impatient():
        _begin(place.nothing, "it", {}, 0)


# -- what the log says of an attempt

_FAILURES: tuple[BaseException, ...] = (
    TimeoutError(),
    ssl.SSLCertVerificationError(1, "verify failed"),
    socket.gaierror(-2, "Name or service not known"),
    AddressRefusedError("10.0.0.1", "private"),
    ssl.SSLError(1, "wrong version number"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError("transfer closed"),
    aiohttp.InvalidURL("https://x"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    aiohttp.ClientError(),
)
_ANSWERS: tuple[tuple[int, dict[str, str], str, str | None], ...] = (
    (500, {}, "down", None),
    (404, {}, "<b>no such\n page</b>" + "x" * 999, None),
    (429, {"Retry-After": "3"}, "", None),
    (410, {}, "", None),
    (302, {"Location": "/there"}, "", None),
    (200, {}, "invalid_payload", "ok"),
)


@case("hooks: on the way to a target")
def _(_: Place) -> str:
    return "\n".join(network_error(exc, "x.test", 20) for exc in _FAILURES)


@case("hooks: what a target answers")
def _(_: Place) -> str:
    verdicts = [
        verdict_of_http(status, headers, body, taken_body=taken)
        for status, headers, body, taken in _ANSWERS
    ]
    return "\n".join(f"{verdict.outcome.value}: {verdict.error}" for verdict in verdicts)


@case("hooks: where no request is made to")
def _(_: Place) -> str:
    refused = (
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0", "::1",
        "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2001::1", "192.0.2.1", "x",
    )  # fmt: skip
    return "\n".join(f"{address}: {refusal(address)}" for address in refused)


@case("hooks: how a command ends")
def _(place: Place) -> str:
    def ended(command: str, **fields: float) -> str | None:
        more = "".join(f", {name}: {value}" for name, value in fields.items())
        sender = sender_of(
            "it",
            target(f"{{type: command, command: [{command}]{more}}}"),
            allow_private=False,
        )
        verdict = asyncio.run(sender.send([decision(1)], now_utc()))
        return f"{verdict.outcome.value}: {verdict.error}"

    script = place.file("hook.sh", "echo no disk >&2; exit $1")
    return "\n".join(
        str(said)
        for said in (
            ended(f"sh, {script}, '3'"),
            ended(f"sh, {script}, '65'"),
            ended("sh, -c, 'kill -9 $$'"),
            ended("sleep, '60'", timeout_s=0.1),
            ended("/nowhere/hook"),
        )
    )
