"""A few of Kafka's requests by hand, for questions to ask before a client library may start.

Client libraries retry and log where a person waits for a reason; one connection and one request
at a time tell it. The invariant: whatever answers, a `WireError` comes of it, never a hang (every
read has the socket's timeout) and never a huge allocation.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass

_CLIENT_ID = b"tidegate"
_MAX_RESPONSE_BYTES = 1 << 20
_METADATA, _SASL_HANDSHAKE, _API_VERSIONS, _SASL_AUTHENTICATE = 3, 17, 18, 36


class WireError(Exception):
    """The other end closed the connection or does not speak Kafka's protocol."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a Metadata response says of the cluster."""

    cluster_id: str | None
    brokers: tuple[tuple[str, int], ...]


class Wire:
    """Requests and responses over one connected socket.

    Args:
        connection: connected, its timeout set; the caller closes it.
    """

    def __init__(self, connection: socket.socket | ssl.SSLSocket) -> None:
        self._connection = connection
        self._correlation = 0

    def api_versions(self) -> None:
        """Ask what the broker supports: every Kafka listener answers this, before any log-in."""
        response = self._ask(_API_VERSIONS, 0, b"")
        if len(response) < 6:
            raise WireError("the answer is too short")

    def sasl_mechanisms(self, mechanism: str) -> tuple[bool, tuple[str, ...]]:
        """Whether the broker takes `mechanism`, and all that it takes."""
        response = _Reader(self._ask(_SASL_HANDSHAKE, 1, _string(mechanism)))
        error = response.int16()
        return error == 0, tuple(response.string() or "" for _ in range(response.count()))

    def sasl_step(self, token: bytes) -> tuple[str | None, bytes]:
        """One step of the log-in: the broker's refusal, if it refuses, and its own token."""
        response = _Reader(self._ask(_SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token))
        error, message = response.int16(), response.string()
        return (message or f"error {error}" if error else None), response.bytes()

    def cluster(self) -> Cluster:
        """The cluster's id and the addresses it wants clients to use."""
        response = _Reader(self._ask(_METADATA, 4, struct.pack(">i?", 0, False)))
        response.int32()  # throttle time
        brokers = []
        for _ in range(response.count()):
            response.int32()  # node id
            host, port = response.string() or "", response.int32()
            response.string()  # rack
            brokers.append((host, port))
        return Cluster(response.string(), tuple(brokers))

    def _ask(self, api: int, version: int, body: bytes) -> bytes:
        self._correlation += 1
        message = (
            struct.pack(">hhih", api, version, self._correlation, len(_CLIENT_ID))
            + _CLIENT_ID
            + body
        )
        self._connection.sendall(struct.pack(">i", len(message)) + message)
        size, correlation = struct.unpack(">ii", self._read(8))
        if not 4 <= size <= _MAX_RESPONSE_BYTES or correlation != self._correlation:
            raise WireError("the answer is not Kafka's protocol")
        return self._read(size - 4)

    def _read(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self._connection.recv(size - len(parts))
            if not part:
                raise WireError("the connection was closed")
            parts += part
        return parts


class _Reader:
    """Kafka's primitive types, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _next(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(form, self._data, self._at)
        except struct.error as exc:
            raise WireError("the answer is too short") from exc
        self._at += struct.calcsize(form)
        number: int = value
        return number

    def int16(self) -> int:
        return self._next(">h")

    def int32(self) -> int:
        return self._next(">i")

    def count(self) -> int:
        """The length of an array; no more than bytes are left, so that a loop over it ends."""
        return min(self.int32(), len(self._data) - self._at)

    def bytes(self) -> bytes:
        size = self.int32()
        value = self._data[self._at : self._at + max(size, 0)]
        self._at += len(value)
        return value

    def string(self) -> str | None:
        size = self.int16()
        if size < 0:
            return None
        value = self._data[self._at : self._at + size]
        if len(value) < size:
            raise WireError("the answer is too short")
        self._at += size
        return value.decode("utf-8", "replace")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data
