from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.kafka.wire import Cluster, Wire, WireError


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()


_CLUSTER = b"".join(
    [
        struct.pack(">ii", 0, 2),
        struct.pack(">i", 1) + _string("one") + struct.pack(">i", 9092) + _string("rack"),
        struct.pack(">i", 2) + _string("zwei") + struct.pack(">ih", 9093, -1),
        _string("the-id"),
        struct.pack(">ii", 1, 0),
    ]
)


@contextlib.contextmanager
def _answering(data: bytes) -> Iterator[Wire]:
    """A `Wire` whose other end reads one request, says `data` and hangs up."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)

    def answer() -> None:
        with theirs:
            theirs.recv(4096)
            theirs.sendall(data)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with ours:
            yield Wire(ours)
    finally:
        thread.join(5)


def _framed(body: bytes, correlation: int = 1) -> bytes:
    return struct.pack(">ii", len(body) + 4, correlation) + body


def test_a_cluster() -> None:
    with _answering(_framed(_CLUSTER)) as wire:
        assert wire.cluster() == Cluster("the-id", (("one", 9092), ("zwei", 9093)))


def test_mechanisms() -> None:
    body = struct.pack(">hi", 33, 2) + _string("PLAIN") + _string("GSSAPI")
    with _answering(_framed(body)) as wire:
        assert wire.sasl_mechanisms("SCRAM-SHA-512") == (False, ("PLAIN", "GSSAPI"))


def test_a_refusal() -> None:
    body = struct.pack(">h", 58) + _string("no such user") + struct.pack(">i", 0)
    with _answering(_framed(body)) as wire:
        assert wire.sasl_step(b"token") == ("no such user", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        struct.pack(">ii", 2**31 - 1, 1),
        struct.pack(">ii", -1, 1),
        _framed(_CLUSTER, correlation=7),
        _framed(_CLUSTER[:-30]),
        _framed(_CLUSTER)[:-5],
    ],
)
def test_what_is_no_answer_is_a_wire_error(data: bytes) -> None:
    with _answering(data) as wire, pytest.raises((WireError, ConnectionError)):
        wire.cluster()


@given(st.binary(max_size=120))
@example(struct.pack(">ii", 0, 2**31 - 1))
@example(struct.pack(">iiih", 0, 1, 1, 2**15 - 1))
def test_any_answer_ends_in_an_answer_or_a_wire_error(body: bytes) -> None:
    for question in (Wire.cluster, Wire.api_versions, lambda wire: wire.sasl_step(b"x")):
        with _answering(_framed(body)) as wire, contextlib.suppress(WireError):
            question(wire)
