"""Writes a manifest as TOML; `models.manifest.load_manifest` reads it back unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from models.manifest import MANIFEST_SCHEMA, Model

#: Keys of a head that are tables of their own in the file, and those left out at their default.
_HEAD_TABLES: Final = ("curves", "measured", "by_language")
_HEAD_DEFAULTS: Final = {"temperature": 1.0, "undetermined": 0.0}


def manifest_toml(
    presets: Mapping[str, list[str]], models: Mapping[str, Model], extends: str | None = None
) -> str:
    """A manifest as text; `load_manifest` reads it back unchanged."""
    lines = [
        "# Which models serve which tasks. Written by `tidegate models build`;",
        "# docs/models/manifest.md describes every key.",
        "",
        f"schema = {_toml(MANIFEST_SCHEMA)}",
        *([f"extends = {_toml(extends)}"] if extends else []),
        "",
        "[presets]",
        *(f"{_key(name)} = {_toml(names)}" for name, names in presets.items()),
    ]
    for name, model in models.items():
        fields = msgspec.structs.asdict(model)
        heads = fields.pop("heads")
        files = fields.pop("files")
        table = f"models.{_key(name)}"
        given = {key: value for key, value in fields.items() if value is not None}
        lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in given.items())]
        lines += ["", f"[{table}.files]", *(f"{_key(k)} = {_toml(v)}" for k, v in files.items())]
        for task, head in heads.items():
            at = f"{table}.heads.{_key(task)}"
            values = msgspec.structs.asdict(head)
            tables = [values.pop(key) for key in _HEAD_TABLES]
            thresholds = values.pop("thresholds")
            lines += ["", f"[{at}]"]
            lines += [
                f"{key} = {_toml(value)}"
                for key, value in values.items()
                if value != _HEAD_DEFAULTS.get(key)
            ]
            if thresholds:
                lines.append(f"thresholds = {_toml(thresholds)}")
            for key, inner in zip(_HEAD_TABLES, tables, strict=True):
                if inner:
                    lines += ["", f"[{at}.{key}]"]
                    lines += [f"{_key(name)} = {_toml(value)}" for name, value in inner.items()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml(name)


def _toml(
    value: str | float | list[Any] | tuple[int, ...] | dict[str, Any] | msgspec.Struct,
) -> str:
    """A TOML value; JSON's strings, numbers and arrays are TOML's, but for DEL.

    A struct or a dictionary is an inline table without the fields that are None.
    """
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
