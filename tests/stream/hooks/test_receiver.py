"""The receiver that the demo starts and users may copy."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from stream.hooks.credentials import Credentials
from stream.hooks.events import Event
from stream.hooks.formats.webhook import WebhookFormat
from stream.hooks.receiver import Receiver, new_key, receive, receive_in_thread
from stream.hooks.senders import now_utc
from stream.hooks.targets import Webhook
from tests.stream.hooks.servers import OTHER_KEY, alert, decision


async def _post(receiver: Receiver, event: Event, key: str | None = None) -> int:
    credentials = Credentials(url=receiver.url, keys=(key or receiver.key,))
    made = WebhookFormat(Webhook(url=receiver.url), credentials).request([event], now_utc())
    async with (
        aiohttp.ClientSession() as session,
        session.post(made.url, data=made.body, headers=made.headers) as response,
    ):
        return response.status


async def test_it_counts_each_message_once_and_follows_alerts() -> None:
    async with receive() as receiver:
        for event in (decision(), decision(), alert()):
            assert await _post(receiver, event) == 204
        account = receiver.account
        assert (account.decisions, account.fired, account.resolved) == (1, 1, 0)
        assert account.repeated == 1
        assert dict(account.actions) == {"hide": 1}
        assert list(account.firing.values()) == ["toxicity"]
        await _post(receiver, alert(state="resolved"))
        assert (account.fired, account.resolved, account.firing) == (1, 1, {})


async def test_what_nobody_signed_is_refused() -> None:
    async with receive() as receiver:
        assert await _post(receiver, decision(), OTHER_KEY) == 401
        async with (
            aiohttp.ClientSession() as session,
            session.post(receiver.url, data=b"\xff") as response,
        ):
            assert response.status == 401
        assert receiver.account.refused == 2
        assert receiver.account.decisions == 0


async def test_two_keys_while_one_is_replaced() -> None:
    new = new_key()
    async with receive(OTHER_KEY, new) as receiver:
        assert await _post(receiver, decision(1), OTHER_KEY) == 204
        assert await _post(receiver, decision(2), new) == 204


def test_in_a_thread_for_programs_without_a_loop() -> None:
    with receive_in_thread() as receiver:
        assert asyncio.run(_post(receiver, decision())) == 204
        assert receiver.account.decisions == 1
        port = int(receiver.url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="address already in use"), receive_in_thread(port=port):
            pass
