"""A TCP proxy in front of a broker that can cut every connection, refuse, and be slow."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024


class Proxy:
    """Listens on a loopback port and passes everything to `target_port`.

    Args:
        listen_port: what the broker advertises.
        target_port: where the broker listens; may be set later.
    """

    def __init__(self, listen_port: int, target_port: int = 0) -> None:
        self.listen_port = listen_port
        self.target_port = target_port
        #: Seconds that every chunk is late.
        self.delay_s = 0.0
        #: The broker gets everything and its answers are held back.
        self.silent = False
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.listen_port)
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut every connection, in the middle of whatever it carries."""
        self.cuts += len(self._writers) // 2
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker_reader, broker_writer = await asyncio.open_connection(
                "127.0.0.1", self.target_port
            )
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, broker_writer}
        for source, target, answers in (
            (reader, broker_writer, False),
            (broker_reader, writer, True),
        ):
            task = asyncio.get_running_loop().create_task(self._pass_on(source, target, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if answers and self.silent:
                    continue
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                target.write(data)
                await target.drain()
        target.transport.abort()
        self._writers.discard(target)
