"""The audit as files: JSON lines or CSV, chain by chain, the oldest entry first.

Invariant: an export holds what is needed to verify it: every field that is hashed, and the hashes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

import msgspec

from dashboard.queries.audit import AuditView
from stream.records import rfc3339

COLUMNS: Final = (
    "topic", "partition", "offset", "at", "who", "what", "on", "detail", "record_sha256", "hash",
)  # fmt: skip


def jsonl(entries: Iterable[AuditView]) -> bytes:
    """One object a line; `detail` is an object in it."""
    lines = []
    for entry in entries:
        row = dict(zip(COLUMNS, _row(entry), strict=True))
        row["detail"] = msgspec.Raw(entry.detail.encode() or b"{}")  # type: ignore[assignment] # JSON as it is
        lines.append(msgspec.json.encode(row))
    return b"\n".join([*lines, b""]) if lines else b""


def as_csv(entries: Iterable[AuditView]) -> bytes:
    """With a header; a cell that a spreadsheet would take for a formula is led by an apostrophe."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for entry in entries:
        writer.writerow([_harmless(value) for value in _row(entry)])
    return out.getvalue().encode()


def _row(entry: AuditView) -> tuple[str | int, ...]:
    return (
        entry.topic,
        entry.partition,
        entry.offset,
        rfc3339(entry.at_ms),
        entry.who,
        entry.what,
        entry.on,
        entry.detail,
        entry.record_sha256,
        entry.hash,
    )


def _harmless(value: str | int) -> str | int:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
