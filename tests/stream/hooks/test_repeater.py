"""Alertmanager hears of an alert for as long as it fires, and never after its resolve."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from stream.hooks.repeater import Repeater
from stream.hooks.senders import now_utc, sender_of
from tests.stream.hooks.servers import alert, answering, decision, serve, target


def _states(body: bytes) -> list[str]:
    found: list[dict[str, Any]] = msgspec.json.decode(body)
    return [each["annotations"]["summary"].split(":")[0] for each in found]


async def test_what_fires_is_repeated_until_it_resolves() -> None:
    async with serve(answering(200)) as server:
        found = target(f"{{type: alertmanager, url: '{server.url}'}}")
        repeater = Repeater(sender_of("it", found, allow_private=True), 60, 1)
        other = alert(3, alert_id="other", rule="other")
        repeater.begin([alert(), other, alert(2, "resolved"), alert(4, alert_id="third")])
        repeater.note(decision())
        assert [event.subject for event in repeater.firing] == ["other", "third"]
        await repeater.repeat()
        repeater.note(alert(5, "resolved", alert_id="other"))
        await repeater.repeat()
        await repeater.close()
    assert [_states(body) for body in server.bodies] == [["FIRING"]] * 3


async def test_a_resolve_waits_for_the_repetition_before_it() -> None:
    arrived: list[str] = []
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse:
        (state,) = _states(await request.read())
        if state == "FIRING":
            await held.wait()
        arrived.append(state)
        return web.Response()

    async with serve(hold) as server:
        found = target(f"{{type: alertmanager, url: '{server.url}'}}")
        repeater = Repeater(sender_of("it", found, allow_private=True), 60, 10)
        repeater.begin([alert()])
        repeating = asyncio.ensure_future(repeater.repeat())
        await asyncio.sleep(0.05)
        repeater.note(alert(2, "resolved"))
        resolving = asyncio.ensure_future(repeater.send([alert(2, "resolved")], now_utc()))
        held.set()
        await asyncio.gather(repeating, resolving)
        await repeater.close()
    assert arrived == ["FIRING", "RESOLVED"]
