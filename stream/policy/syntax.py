"""The tree of a checked CEL expression, read from the compiler's serialised form.

The compiler gives its result as a `cel.expr.CheckedExpr` message. Only what rules need is read:
names, calls, constants, and where they stand. Invariant: positions are in characters of the
expression, as the compiler counts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

#: Protobuf: a field is (number, value); bytes for strings and messages, int for the rest.
_Fields = list[tuple[int, "int | bytes"]]
_STRUCT = 8
#: Field of an expression (list, struct, comprehension) to the fields in it that hold expressions.
_EXPRESSIONS_IN = {7: (1,), _STRUCT: (2,), 9: (2, 4, 5, 6, 7)}


@dataclass(frozen=True, slots=True)
class Node:
    """One node: a `name`, a `call` (operators are `_&&_`, `!_`, ...), a constant, or else `other`.

    `offset` is where the compiler puts it: a name at its first character, a call at its
    operator or its name, everything else at its beginning.
    """

    kind: str
    offset: int
    text: str = ""
    value: str | float | bool | None = None
    children: tuple[Node, ...] = ()


def walk(node: Node, *, negated: bool = False) -> Iterator[tuple[Node, bool]]:
    """Every node, from the top, with whether it stands beneath an odd number of `!`."""
    yield node, negated
    inside = negated ^ (node.kind == "call" and node.text == "!_")
    for child in node.children:
        yield from walk(child, negated=inside)


def parse_serialised(serialised: bytes) -> Node:
    """The tree of `Expression.serialize()`, of a checked expression or one that is only parsed."""
    message = _only(serialised, 2)  # google.protobuf.Any: the value
    expression, source_info = (4, 5) if _only(serialised, 1).endswith(b"CheckedExpr") else (2, 3)
    positions: dict[int, int] = {}
    for number, value in _fields(_only(message, source_info)):
        if number == 4 and isinstance(value, bytes):  # positions: id to offset
            entry = dict(_fields(value))
            positions[_int(entry.get(1, 0))] = _int(entry.get(2, 0))
    return _node(_only(message, expression), positions)


def _node(data: bytes, positions: dict[int, int]) -> Node:
    fields = dict(_fields(data))
    offset = positions.get(_int(fields.get(2, 0)), 0)
    if isinstance(const := fields.get(3), bytes):
        return _constant(const, offset)
    if isinstance(ident := fields.get(4), bytes):
        name = _only(ident, 1).decode()
        # `a.b` stands where its last dot is.
        return Node("name", offset - max(name.rfind("."), 0), name)
    if isinstance(select := fields.get(5), bytes):
        return Node(
            "select",
            offset,
            _only(select, 2).decode(),
            children=(_node(_only(select, 1), positions),),
        )
    if isinstance(call := fields.get(6), bytes):
        children = [
            _node(v, positions) for n, v in _fields(call) if n in (1, 3) and isinstance(v, bytes)
        ]
        return Node("call", offset, _only(call, 2).decode(), children=tuple(children))
    inner: list[bytes] = []
    for kind, wanted in _EXPRESSIONS_IN.items():
        if isinstance(value := fields.get(kind), bytes):
            inner = [v for n, v in _fields(value) if n in wanted and isinstance(v, bytes)]
            if kind == _STRUCT:
                inner = [
                    v for e in inner for n, v in _fields(e) if n in (3, 4) and isinstance(v, bytes)
                ]
    return Node("other", offset, children=tuple(_node(v, positions) for v in inner))


def _constant(data: bytes, offset: int) -> Node:
    (number, raw), *_ = _fields(data)
    value: str | float | bool | None = None
    match number, raw:
        case 2, int():
            value = bool(raw)
        case 3 | 4, int():
            value = raw - (1 << 64) if number == 3 and raw >= 1 << 63 else raw
        case 5, bytes():
            (value,) = struct.unpack("<d", raw)
        case 6, bytes():
            value = raw.decode()
        case _:
            pass
    return Node("constant", offset, value=value)


def _int(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0


def _only(data: bytes, wanted: int) -> bytes:
    """The last field of that number, as bytes; empty where it is not there."""
    found = b""
    for number, value in _fields(data):
        if number == wanted and isinstance(value, bytes):
            found = value
    return found


def _fields(data: bytes) -> _Fields:
    fields: _Fields = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 1:
            value, at = data[at : at + 8], at + 8
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire == 5:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(data) or number == 0:
            raise ValueError("a field ends after its message")
        fields.append((number, value))
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
