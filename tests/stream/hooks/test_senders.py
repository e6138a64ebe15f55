"""Attempts against real servers that are slow, broken, gone, private or not who they say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from stream.errors import ConfigError
from stream.hooks.events import Event
from stream.hooks.senders import Sender, now_utc, sender_of
from stream.hooks.verdict import Outcome, Verdict
from tests.apache_kafka import free_ports
from tests.stream.hooks.servers import (
    KEY,
    Handler,
    alert,
    answering,
    certificate,
    decision,
    hanging_up,
    resetting,
    serve,
    slowly,
    target,
)

SECRETS = ("s3cr3t-path", KEY.removeprefix("whsec_"))


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)


async def sent(
    url: str, *events: Event, allow_private: bool = True, more: str = "", kind: str = "webhook"
) -> Verdict:
    """One attempt at a URL."""
    secret = ", secret_env: HOOK_KEY" if kind == "webhook" else ""
    found = target(f"{{type: {kind}, url: '{url}'{secret}{more}}}")
    sender = sender_of("it", found, allow_private=allow_private)
    try:
        verdict = await sender.send(events or [decision()], now_utc())
    finally:
        await sender.close()
    assert not any(secret in (verdict.error or "") for secret in SECRETS)
    return verdict


async def test_delivered_signed_and_verified_by_the_library() -> None:
    async with serve(answering(204)) as server:
        verdict = await sent(server.url)
    assert verdict == Verdict(Outcome.DELIVERED, 204)
    (request,) = server.requests
    message = Verifier(KEY).verify(server.bodies[0], dict(request.headers))
    assert message["data"]["decision_id"] == decision().record_id
    assert request.headers["User-Agent"] == "Tidegate-Hooks"


async def test_500_then_200_has_one_id_and_two_signatures_over_time() -> None:
    async with serve(answering(500, "oh no"), answering(200)) as server:
        found = target(f"{{type: webhook, url: '{server.url}', secret_env: HOOK_KEY}}")
        sender = sender_of("it", found, allow_private=True)
        at = now_utc()
        first = await sender.send([decision()], at - timedelta(seconds=60))
        second = await sender.send([decision()], at)
        await sender.close()
    assert (first.outcome, first.status, first.error) == (Outcome.FAILED, 500, "HTTP 500: oh no")
    assert second.outcome is Outcome.DELIVERED
    one, two = (dict(request.headers) for request in server.requests)
    assert one["webhook-id"] == two["webhook-id"]
    assert int(two["webhook-timestamp"]) - int(one["webhook-timestamp"]) == 60
    assert one["webhook-signature"] != two["webhook-signature"]
    for body, headers in zip(server.bodies, (one, two), strict=True):
        Verifier(KEY).verify(body, headers)


async def test_slow() -> None:
    async with serve(slowly) as server:
        verdict = await sent(server.url, more=", timeout_s: 0.3")
    assert verdict == Verdict(Outcome.FAILED, None, "`127.0.0.1` gave no answer within 0.3 s")


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (answering(429, "busy"), Outcome.SLOW_DOWN, "HTTP 429: busy"),
        (answering(503), Outcome.FAILED, "HTTP 503"),
        (answering(503, Retry_After="7"), Outcome.SLOW_DOWN, "HTTP 503"),
        (answering(410, "moved away"), Outcome.GONE, "HTTP 410: moved away"),
        (answering(400, "what?"), Outcome.REFUSED, "HTTP 400: what?"),
        (answering(413), Outcome.REFUSED, "HTTP 413"),
        (answering(401), Outcome.FAILED, "HTTP 401"),
        (answering(404), Outcome.FAILED, "HTTP 404"),
        (hanging_up, Outcome.FAILED, "`127.0.0.1` closed the connection without an answer"),
        (resetting, Outcome.FAILED, "no connection to `127.0.0.1`: connection reset by peer"),
    ],
)
async def test_what_an_answer_means(answer: Handler, outcome: Outcome, error: str) -> None:
    async with serve(answer) as server:
        verdict = await sent(server.url)
    assert (verdict.outcome, verdict.error) == (outcome, error)


async def test_retry_after_in_seconds_and_as_a_date() -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    async with serve(answering(429, Retry_After="17"), answering(429, Retry_After=in_an_hour)) as s:
        first, second = await sent(s.url), await sent(s.url)
    assert first.retry_after_s == 17
    assert second.retry_after_s is not None
    assert 3500 < second.retry_after_s <= 3600


async def test_an_answer_that_repeats_the_secret_is_masked() -> None:
    async with serve(answering(400, f"no key {KEY} at /hook/s3cr3t-path")) as server:
        verdict = await sent(server.url)
    assert verdict.error == "HTTP 400: no key *** at ***"


async def test_a_flood_of_an_answer_is_not_read() -> None:
    async with serve(answering(500, "x" * 5_000_000)) as server:
        verdict = await sent(server.url)
    assert verdict.error is not None
    assert len(verdict.error) < 300


async def test_a_redirect_is_not_followed() -> None:
    async with serve(answering(200)) as other:
        async with serve(answering(302, Location=other.url)) as server:
            verdict = await sent(server.url)
        assert other.requests == []
    assert (verdict.outcome, verdict.status) == (Outcome.FAILED, 302)
    assert verdict.error == "HTTP 302: redirects are not followed"


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/x", "http://localhost:1/x", "//127.1/x"])
async def test_a_redirect_to_a_private_address_is_named(where: str) -> None:
    """The server itself is on loopback: the guard lets that one address pass, and no other."""
    async with serve(answering(307, Location=where)) as server:
        found = target(f"{{type: webhook, url: '{server.url}', secret_env: HOOK_KEY}}")
        sender: Any = sender_of("it", found, allow_private=True)
        sender._started()
        sender._allow_private = False
        verdict = await sender.send([decision()], now_utc())
        await sender.close()
    assert verdict.outcome is Outcome.FAILED
    assert "redirects are not followed, and this one leads to a private place" in verdict.error
    assert ", loopback" in verdict.error


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("https://127.0.0.1/x", "`127.0.0.1`, loopback"),
        ("https://localhost/x", "`localhost` is 127.0.0.1, loopback"),
        ("https://0x7f.1/x", "is 127.0.0.1, loopback"),
        ("https://[::1]/x", "`::1`, loopback"),
        ("https://[::ffff:127.0.0.1]/x", ", loopback"),
        ("https://169.254.169.254/latest", "`169.254.169.254`, a cloud's metadata service"),
        ("https://10.1.2.3/x", "`10.1.2.3`, private"),
        ("https://[fd00::1]/x", "`fd00::1`, private"),
        ("https://0.0.0.0/x", "`0.0.0.0`, this host"),
        ("https://100.64.1.1/x", "a provider's shared range"),
    ],
)
async def test_no_connection_to_a_private_address(url: str, error: str) -> None:
    verdict = await sent(url, allow_private=False)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error is not None
    assert error in verdict.error
    assert "unless `allow_private` is set" in verdict.error


async def test_a_number_is_no_name() -> None:
    verdict = await sent("https://2130706433/x", allow_private=False)
    assert verdict.error == "`2130706433` is no name of a host"


async def test_a_name_that_changes_its_mind_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: public whenever it is asked to be looked at, private for the connection."""
    port = free_ports(1)[0]
    loop = asyncio.get_running_loop()
    public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))
    private = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    asked: list[str] = []

    async def lying(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [private] if len(asked) % 2 else [public]

    monkeypatch.setattr(loop, "getaddrinfo", lying)
    verdict = await sent("https://rebinding.test/x", allow_private=False)
    assert asked
    assert verdict.error is not None
    assert "`rebinding.test` is 127.0.0.1, loopback" in verdict.error


async def test_the_setting_and_the_target_may_allow_it() -> None:
    async with serve(answering(204)) as server:
        allowed = await sent(server.url, allow_private=False, more=", allow_private: true")
        with pytest.raises(ConfigError, match="unencrypted"):
            await sent(server.url, allow_private=True, more=", allow_private: false")
    assert allowed.outcome is Outcome.DELIVERED


async def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    async with serve(answering(204), tls=certificate(tmp_path)) as server:
        refused = await sent(server.url)
        trusted = await sent(server.url, more=f", ca_file: {tmp_path}/server.pem")
        assert len(server.requests) == 1
    assert refused.outcome is Outcome.FAILED
    assert refused.error == "the certificate of `127.0.0.1` is not trusted: self-signed certificate"
    assert trusted.outcome is Outcome.DELIVERED


async def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    """Signed by an authority that we trust, for another name."""
    (tmp_path / "other").mkdir()
    theirs = certificate(tmp_path / "other", "DNS:other.test")
    async with serve(answering(204), tls=theirs) as server:
        verdict = await sent(server.url, more=f", ca_file: {tmp_path}/other/server.pem")
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error is not None
    assert "certificate of `127.0.0.1` is not trusted: IP address mismatch" in verdict.error


async def test_no_tls_where_tls_is_wanted() -> None:
    async with serve(answering(204)) as server:
        verdict = await sent(server.url.replace("http:", "https:"))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error == "no TLS with `127.0.0.1`"


async def test_an_answer_that_is_not_http() -> None:
    """A server of another protocol, that waits for the other side to hang up."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ready\r\n\r\n")
        await reader.read()
        writer.close()

    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        verdict = await sent(f"http://127.0.0.1:{port}/x")
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error == "`127.0.0.1` gave an answer that is not HTTP"


async def test_nobody_there_and_no_such_name() -> None:
    port = free_ports(1)[0]
    nobody = await sent(f"http://127.0.0.1:{port}/x")
    unknown = await sent("https://no-such-host.invalid/x")
    assert nobody.error is not None
    assert nobody.error.startswith("no connection to `127.0.0.1`: ")
    assert unknown.error == "the name `no-such-host.invalid` does not resolve"


async def test_every_http_kind_reaches_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTING", "R" * 32)
    async with serve(answering(200, "ok")) as server:
        for kind, more in (
            ("slack", ""),
            ("discord", ""),
            ("pagerduty", ", routing_key_env: ROUTING"),
            ("alertmanager", ""),
            ("cloudevents", ""),
        ):
            verdict = await sent(server.url, alert(), kind=kind, more=more)
            assert verdict.outcome is Outcome.DELIVERED, kind
    paths = [request.path_qs for request in server.requests]
    assert paths[1].endswith("?wait=true")
    assert paths[3].endswith("/api/v2/alerts")


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    found = target("{type: webhook, url: 'https://x.test/s3cr3t-path', secret_env: HOOK_KEY}")
    made = sender_of("it", found, allow_private=False)
    yield made
    await made.close()


def test_a_sender_shows_no_secret(sender: Sender) -> None:
    shown = repr(sender) + repr(vars(sender))
    assert not any(secret in shown for secret in SECRETS)
