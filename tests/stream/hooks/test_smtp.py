"""Mail over a real SMTP server on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.hooks.senders import now_utc, sender_of
from stream.hooks.verdict import Outcome, Verdict
from tests.apache_kafka import free_ports
from tests.stream.hooks.servers import MailServer, certificate, decision, serve_mail, target


async def sent(server: MailServer, more: str = ", security: none", host: str = "127.0.0.1", **options: bool) -> Verdict:  # fmt: skip
    text = f"{{type: email, host: {host}, port: {server.port}, sender: t@x.test, to: [a@x.test, b@x.test]{more}}}"
    sender = sender_of("it", target(text), **({"allow_private": True} | options))
    verdict = await sender.send([decision(text="über 🦊")], now_utc())
    await sender.close()
    return verdict


async def test_delivered() -> None:
    async with serve_mail() as server:
        verdict = await sent(server)
    assert verdict == Verdict(Outcome.DELIVERED, 250)
    (mail,) = server.mails
    assert "Subject: [Tidegate] HIDE (high): insults" in mail
    assert decision().message_id in mail
    assert [c for c in server.commands if c.startswith("RCPT")] == [
        "RCPT TO:<a@x.test>",
        "RCPT TO:<b@x.test>",
    ]


@pytest.mark.parametrize(
    ("refusals", "outcome", "code"),
    [
        ({"MAIL": "451 greylisted"}, Outcome.FAILED, 451),
        ({"RCPT": "550 no such user"}, Outcome.REFUSED, 550),
        ({"RCPT": "450 busy"}, Outcome.FAILED, 450),
        ({"DATA": "554 spam"}, Outcome.REFUSED, 554),
        ({"EHLO": "421 closing", "HELO": "421 closing"}, Outcome.FAILED, 421),
    ],
)
async def test_what_a_server_says(refusals: dict[str, str], outcome: Outcome, code: int) -> None:
    async with serve_mail(refusals=refusals) as server:
        verdict = await sent(server)
    assert (verdict.outcome, verdict.status) == (outcome, code)
    assert verdict.error is not None
    assert verdict.error.startswith(f"SMTP {code}: ")


async def test_starttls_and_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "hunter2hunter2")
    more = f", ca_file: {tmp_path}/server.pem, username: me, password_env: MAIL_PASSWORD"
    async with serve_mail(starttls=certificate(tmp_path)) as server:
        verdict = await sent(server, more)
    assert verdict.outcome is Outcome.DELIVERED, verdict.error
    assert server.commands.index("STARTTLS") < next(
        n for n, c in enumerate(server.commands) if c.startswith("AUTH")
    )


async def test_without_starttls_nothing_is_sent() -> None:
    async with serve_mail() as server:
        verdict = await sent(server, "")
    assert verdict.outcome is Outcome.FAILED
    assert server.mails == []


async def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    async with serve_mail(tls=certificate(tmp_path)) as server:
        refused = await sent(server, ", security: tls")
        trusted = await sent(server, f", security: tls, ca_file: {tmp_path}/server.pem")
    assert refused.outcome is Outcome.FAILED
    assert refused.error is not None
    assert "certificate" in refused.error
    assert trusted.outcome is Outcome.DELIVERED, trusted.error


async def test_a_private_address_is_refused() -> None:
    async with serve_mail() as server:
        verdict = await sent(server, host="localhost", allow_private=False)
    assert verdict.error is not None
    assert "`localhost` is 127.0.0.1, loopback" in verdict.error
    assert server.commands == []


async def test_nobody_there() -> None:
    verdict = await sent(MailServer(port=free_ports(1)[0]))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.error == "no connection to `127.0.0.1`: connection refused"


def test_a_user_needs_a_password() -> None:
    found = target("{type: email, host: h, sender: a@x.test, to: [b@x.test], username: me}")
    with pytest.raises(ConfigError, match="no `password_env`"):
        sender_of("it", found, allow_private=False)
