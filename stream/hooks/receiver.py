"""A receiver of signed webhooks, as an example and for the demo: it verifies, and counts.

    async with receive() as receiver:
        ...  # targets: {bot: {type: webhook, url: receiver.url, secret_env: ...}}
        print(receiver.account)

What a receiver of your own must do is all here: take the raw body, verify id, timestamp and
signature before reading it, answer 2xx quickly, and take a second delivery of an id for what it is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

#: Ids kept to tell a second delivery; the oldest are forgotten.
_KEPT_IDS: Final = 100_000


def new_key() -> str:
    """A signing key: `whsec_` and base64 of 32 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@dataclass(slots=True)
class Account:
    """What has arrived: each message once in `types`, however often it came."""

    #: Messages by type (`post.flagged`, `alert.firing`, `alert.resolved`, ...).
    types: Counter[str] = field(default_factory=Counter)
    #: Decisions by action.
    actions: Counter[str] = field(default_factory=Counter)
    #: Rules of alerts that fire now; one that resolved is gone.
    firing: dict[str, str] = field(default_factory=dict)
    #: Second deliveries of an id: at least once is the promise.
    repeated: int = 0
    #: Requests without a valid signature.
    refused: int = 0

    @property
    def decisions(self) -> int:
        """Messages about posts."""
        return sum(count for name, count in self.types.items() if not name.startswith("alert."))

    @property
    def fired(self) -> int:
        """Alerts that fired."""
        return self.types["alert.firing"]

    @property
    def resolved(self) -> int:
        """Alerts that resolved."""
        return self.types["alert.resolved"]


class Receiver:
    """Verifies and counts; mount `handle` on a route of aiohttp's.

    Args:
        keys: signing keys; a message that one of them verifies is taken.
    """

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.account = Account()
        self.url = ""
        self._seen: dict[str, None] = {}

    @property
    def key(self) -> str:
        """The key that the sender signs with."""
        return self.keys[0]

    async def handle(self, request: web.Request) -> web.Response:
        """Take one message: 204, or 401 where no key verifies it."""
        body = await request.read()
        message = self._verified(body, dict(request.headers))
        if message is None:
            self.account.refused += 1
            return web.json_response({"error": "no valid signature"}, status=401)
        message_id = request.headers["webhook-id"]
        if message_id in self._seen:
            self.account.repeated += 1
        else:
            self._seen[message_id] = None
            if len(self._seen) > _KEPT_IDS:
                del self._seen[next(iter(self._seen))]
            self._count(message)
        return web.Response(status=204)

    def _verified(self, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        for key in self.keys:
            with contextlib.suppress(WebhookVerificationError, ValueError):
                message = Webhook(key).verify(body, headers)
                return message if isinstance(message, dict) else None
        return None

    def _count(self, message: dict[str, Any]) -> None:
        kind, data = str(message.get("type")), message.get("data") or {}
        self.account.types[kind] += 1
        if "action" in data:
            self.account.actions[str(data["action"])] += 1
        if kind == "alert.firing":
            self.account.firing[str(data.get("alert_id"))] = str(data.get("rule"))
        elif kind == "alert.resolved":
            self.account.firing.pop(str(data.get("alert_id")), None)


@contextlib.asynccontextmanager
async def receive(
    *keys: str, host: str = "127.0.0.1", port: int = 0, path: str = "/hooks"
) -> AsyncIterator[Receiver]:
    """A receiver that listens, at `url`; without keys it makes one. Port 0 is a free one."""
    receiver = Receiver(*(keys or (new_key(),)))
    app = web.Application()
    app.router.add_post(path, receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address = runner.addresses[0]
        receiver.url = f"http://{address[0]}:{address[1]}{path}"
        yield receiver
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def receive_in_thread(*keys: str, host: str = "127.0.0.1", port: int = 0) -> Iterator[Receiver]:
    """`receive` for a program without an event loop: it runs in a thread of its own."""
    ready: threading.Event = threading.Event()
    found: list[Receiver] = []
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        try:
            async with receive(*keys, host=host, port=port) as receiver:
                found.append(receiver)
                ready.set()
                await stop.wait()
        except OSError as exc:
            failed.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="receiver")
    thread.start()
    try:
        ready.wait()
        if failed:
            raise failed[0]
        yield found[0]
    finally:
        if not failed:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
