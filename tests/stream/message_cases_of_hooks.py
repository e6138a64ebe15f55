"""Mistakes and failures of hooks, provoked."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stream.hooks.beginning import _begin
from stream.hooks.credentials import credentials_of
from stream.hooks.follow import new_deliveries
from stream.hooks.load import load_targets
from stream.hooks.replay import _Log
from stream.hooks.senders import sender_of
from stream.outcomes import Delivery
from stream.settings import HookSettings
from tests.stream.hooks.servers import target
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
