"""The loop of a target against real servers: retries, order, rate, what is logged and when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from stream.errors import DeliveryError
from stream.hooks.deliverer import Deliverer
from stream.hooks.events import Event
from stream.hooks.outbox import Item, Outbox
from stream.hooks.senders import sender_of
from stream.hooks.targets import Target
from stream.outcomes import Delivery
from tests.stream.hooks.servers import (
    KEY,
    Handler,
    Server,
    answering,
    decision,
    hanging_up,
    resetting,
    serve,
    slowly,
    target,
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", KEY)


def webhook(server: Server, more: str = "retries: [0, 0.05, 0.05, 0.05]") -> Target:
    return target(f"{{type: webhook, url: '{server.url}', secret_env: HOOK_KEY, {more}}}")


class Run:
    """A deliverer with its log in memory."""

    def __init__(self, found: Target) -> None:
        self.log: list[Delivery] = []
        self.resolved: list[Item] = []
        self.sender = sender_of("it", found, allow_private=True)
        self.deliverer = Deliverer(
            "it",
            Outbox(found.limits()),
            self.sender,
            record=self._record,
            resolved=self._resolved,
        )

    async def _record(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.sleep(0)
        self.log += deliveries

    def _resolved(self, item: Item) -> None:
        logged = [d.record_id for d in self.log if d.state != "retrying"]
        assert item.event.record_id in logged, "resolved before its log was safe"
        self.resolved.append(item)

    async def deliver(self, *events: Event) -> list[Delivery]:
        """Until all are resolved."""
        self.deliverer.put([Item(event, since=time.time()) for event in events])
        running = asyncio.ensure_future(self.deliverer.run())
        try:
            async with asyncio.timeout(20):
                while len(self.resolved) < len(events):
                    await asyncio.wait({running}, timeout=0.01)
                    if running.done():
                        running.result()
        finally:
            running.cancel()
            await asyncio.wait({running})
            await self.sender.close()
        return self.log


@pytest.mark.parametrize(
    "bad", [answering(500), hanging_up, resetting], ids=["500", "hangs up", "resets"]
)
async def test_fails_then_works(bad: Handler) -> None:
    async with serve(bad, bad, answering(200)) as server:
        log = await Run(webhook(server)).deliver(decision())
    assert [(d.state, d.attempt) for d in log] == [
        ("retrying", 1), ("retrying", 2), ("delivered", 3),
    ]  # fmt: skip
    assert [d.delivery_id for d in log] == [f"it/decisions/0/1#{n}" for n in (1, 2, 3)]
    assert len({request.headers["webhook-id"] for request in server.requests}) == 1
    for request, body in zip(server.requests, server.bodies, strict=True):
        Verifier(KEY).verify(body, dict(request.headers))


async def test_slow_then_works() -> None:
    async with serve(slowly, answering(200)) as server:
        log = await Run(webhook(server, "retries: [0, 0], timeout_s: 0.2")).deliver(decision())
    assert [d.state for d in log] == ["retrying", "delivered"]
    assert log[0].error == "`127.0.0.1` gave no answer within 0.2 s"
    assert log[0].next_at is not None


async def test_given_up_after_the_last_of_the_schedule_with_its_original() -> None:
    async with serve(answering(500)) as server:
        log = await Run(webhook(server, "retries: [0, 0.01]")).deliver(decision())
    assert [(d.state, d.original) for d in log] == [
        ("retrying", None), ("failed", decision().original),
    ]  # fmt: skip
    assert (log[1].status, log[1].error, log[1].post_id) == (500, "HTTP 500", "p1")


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(form: str) -> None:
    """Nothing at all arrives before the time that the receiver asked for."""
    asked: list[float] = []
    arrived: list[float] = []

    async def busy(_: web.Request) -> web.StreamResponse:
        arrived.append(time.time())
        if asked:
            return web.Response(status=200)
        at = datetime.now(UTC) + timedelta(seconds=2)
        header = "1" if form == "seconds" else format_datetime(at, usegmt=True)
        asked.append(time.time() + 1 if form == "seconds" else int(at.timestamp()))
        return web.Response(status=429, headers={"Retry-After": header})

    async with serve(busy) as server:
        run = Run(webhook(server, "retries: [0, 0], concurrency: 1"))
        log = await run.deliver(decision(1, "p1"), decision(2, "p2"))
    assert [d.state for d in log] == ["retrying", "delivered", "delivered"]
    assert min(arrived[1:]) >= asked[0] - 0.05


async def test_410_disables_the_target_and_nothing_is_given_up() -> None:
    async with serve(answering(410, "moved")) as server:
        run = Run(webhook(server))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await run.deliver(decision(1, "p1"), decision(2, "p2"))
    assert run.deliverer.outbox.disabled == "the target is gone: HTTP 410: moved"
    assert run.resolved == []
    assert {d.error for d in run.log} == {"the target is gone: HTTP 410: moved"}
    assert {d.state for d in run.log} == {"retrying"}
    assert len(server.requests) <= 2


async def test_the_order_of_a_post_is_kept_whatever_fails() -> None:
    arrived: dict[str, list[str]] = defaultdict(list)
    attempts: Counter[str] = Counter()

    async def flaky(request: web.Request) -> web.StreamResponse:
        data = (await request.json())["data"]
        record = data["decision_id"]
        attempts[record] += 1
        # By the record, not by how many requests came: whatever comes first, none is given up.
        number = int(record.rpartition("/")[2])
        if attempts[record] <= number % 4:
            return web.Response(status=500)
        await asyncio.sleep(0.002 * (attempts.total() % 5))
        arrived[data["post_id"]].append(record)
        return web.Response(status=204)

    events = [decision(number, f"p{number % 7}") for number in range(60)]
    more = "retries: [0, 0.01, 0.01, 0.01, 0.01, 0.01], concurrency: 8, breaker: {failures: 1000}"
    async with serve(flaky) as server:
        run = Run(webhook(server, more))
        await run.deliver(*events)
    assert {item.attempt for item in run.resolved} == {1, 2, 3, 4}
    assert sum(map(len, arrived.values())) == 60
    for post, found in arrived.items():
        assert found == [e.record_id for e in events if e.post_id == post]


async def test_a_batch_is_one_message_and_each_record_is_logged() -> None:
    async with serve(answering(200, "ok")) as server:
        slack = target(f"{{type: slack, url: '{server.url}', rate_per_s: 1000}}")
        log = await Run(slack).deliver(*[decision(n, f"p{n}") for n in range(10)])
    assert len(server.requests) == 1
    assert len(log) == 10
    assert {d.state for d in log} == {"delivered"}


async def test_without_a_log_nothing_is_resolved() -> None:
    async with serve(answering(200)) as server:
        run = Run(webhook(server))

        async def broken(_: Any) -> None:
            raise DeliveryError("the broker is away")

        run.deliverer._record = broken
        with pytest.raises(BaseExceptionGroup) as raised:
            await run.deliver(decision())
    assert raised.group_contains(DeliveryError)
    assert run.resolved == []


async def test_what_cannot_be_formatted_is_given_up_and_the_next_goes_on() -> None:
    async with serve(answering(200)) as server:
        run = Run(webhook(server))
        good = decision(2, "p2")
        run.deliverer._sender = _Exploding(run.sender)
        log = await run.deliver(good, decision(3, "explode"))
    states = {d.record_id: (d.state, d.error) for d in log}
    assert states == {
        good.record_id: ("delivered", None),
        "explode@posts/0/3": ("failed", "it cannot be sent: KeyError"),
    }


class _Exploding:
    def __init__(self, sender: Any) -> None:
        self._sender = sender

    async def send(self, events: Sequence[Event], at: datetime) -> Any:
        if events[0].post_id == "explode":
            raise KeyError("a mistake of ours")
        return await self._sender.send(events, at)

    async def close(self) -> None: ...
