"""What the worker and its scoring process say to each other, and how it goes through a socket.

A message is its length (4 bytes), itself in MessagePack, and after a `Done` the bytes of its
batches. Both ends are of one installation: there are no versions.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from stream.kafka.packing import Packed, WireBatch
from stream.outcomes import ModelInUse

_LENGTH: Final = 4
#: Asked of the kernel, which may give less: a batch of labels should not need a hundred turns.
_SOCKET_BYTES: Final = 1 << 20


class Load(msgspec.Struct, tag="load", array_like=True):
    """To the process: load these models, and log so. Both are sections of settings as JSON."""

    models: str
    log: str


class Loaded(msgspec.Struct, tag="loaded", array_like=True):
    """From it: they are there. `events` are for the log, one for each model."""

    models: dict[str, tuple[str, str]]
    in_use: list[ModelInUse]
    events: list[dict[str, Any]]


class Names(msgspec.Struct, tag="names", array_like=True):
    """To it: where labels and dead letters go, and what these topics take."""

    labels: str
    dead_letters: str
    max_batch_bytes: dict[str, int]


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """From it: `Compute` may come, over any of the sockets."""


class PassedRecord(msgspec.Struct, array_like=True, gc=False):
    """A consumed record; `ledger.Record` to the pipeline."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int
    offset: int


class Compute(msgspec.Struct, tag="compute", array_like=True):
    """To it: make labels of these spans, each a topic, a partition and its records."""

    spans: list[tuple[str, int, list[PassedRecord]]]


class Done(msgspec.Struct, tag="done", array_like=True):
    """From it: how many came out, and of each batch that follows topic, partition, records, bytes."""

    labels: int
    dead_letters: int
    batches: list[tuple[str, int, int, int]]


class Failed(msgspec.Struct, tag="failed", array_like=True):
    """From it: an error of ours by its class's name; the worker raises it."""

    kind: str
    message: str
    where: str | None
    hint: str | None


Bytes = bytes | bytearray
Message = Load | Loaded | Names | Ready | Compute | Done | Failed
_decoder = msgspec.msgpack.Decoder(Message)
_encode = msgspec.msgpack.Encoder().encode


class Channel:
    """One end of a socket pair; one thread at a time uses it."""

    def __init__(self, end: socket.socket) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        self._socket = end

    def send(self, message: Message, batches: Iterable[Bytes] = ()) -> None:
        """Send a message and what belongs to it.

        Raises:
            OSError: there is nobody at the other end.
        """
        encoded = _encode(message)
        self._socket.sendall(len(encoded).to_bytes(_LENGTH, "big") + encoded)
        for batch in batches:
            self._socket.sendall(batch)

    def receive(self) -> Message:
        """The next message.

        Raises:
            EOFError: the other end is closed.
            OSError: it went away in the middle of something.
        """
        length = int.from_bytes(self._exactly(_LENGTH), "big")
        message: Message = _decoder.decode(self._exactly(length))
        return message

    def batches(self, done: Done) -> list[Packed]:
        """What follows a `Done`."""
        return [
            Packed(topic, partition, WireBatch(self._exactly(size), records))
            for topic, partition, records, size in done.batches
        ]

    def close(self) -> None:
        """Close it, under a thread that waits for a message, too."""
        with contextlib.suppress(OSError):  # the other end was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, count: int) -> bytearray:
        buffer = bytearray(count)
        with memoryview(buffer) as view:
            got = 0
            while got < count:
                read = self._socket.recv_into(view[got:])
                if not read:
                    raise EOFError
                got += read
        return buffer


def done(labels: int, dead_letters: int, packed: Sequence[Packed]) -> tuple[Done, list[Bytes]]:
    """The message for these batches, and their bytes."""
    batches = [(p.topic, p.partition, p.builder.record_count(), p.builder.size()) for p in packed]
    return Done(labels, dead_letters, batches), [p.builder.buffer for p in packed]
