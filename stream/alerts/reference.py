"""The keys of a file of alert rules as a part of docs/alerts.md, from what reads them."""

from __future__ import annotations

from collections.abc import Mapping

from stream.alerts.rule_file import (
    COMMON_KEYS,
    FILE_KEYS,
    KIND_KEYS,
    QUIET_KEYS,
    TEST_KEYS,
    WINDOW_KEYS,
)


def key_reference() -> str:
    """Every key with its meaning, in Markdown."""
    parts = [_table("The file", FILE_KEYS), _table("Every rule", COMMON_KEYS)]
    parts += [_table(f"`kind: {kind}`", keys) for kind, keys in KIND_KEYS.items()]
    parts += [
        _table("`quiet`", QUIET_KEYS),
        _table("A test", TEST_KEYS),
        _table("A window of a test", WINDOW_KEYS),
    ]
    return "\n".join(parts)


def _table(title: str, keys: Mapping[str, str]) -> str:
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in keys.items())
    return f"### {title}\n\n| key | |\n|---|---|\n{rows}"
