"""The fields of a mapping of a rule file, each read with its default; mistakes are reported."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from stream.policy.document import Value
from stream.policy.durations import seconds_of, shown

_LONGEST_S: Final = 30 * 86_400


class Fields:
    """Fields by name.

    Args:
        fields: those that are there.
        whole: what they are in, to be blamed for one that is not.
    """

    def __init__(self, fields: Mapping[str, Value], whole: Value | None = None) -> None:
        self._fields = fields
        self._whole = whole

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __getitem__(self, name: str) -> Value:
        return self._fields[name]

    def missing(self, name: str, meaning: str | None = None) -> None:
        """Report that a field is not there."""
        assert self._whole is not None
        self._whole.wrong(f"`{name}` is missing", hint=f"{name}: {meaning}" if meaning else None)

    def all_of(self, *names: str) -> bool:
        """Whether all are there; those that are not are reported."""
        absent = [name for name in names if name not in self._fields]
        if not self._fields:
            return False  # what is no mapping has been reported as that
        for name in absent:
            self.missing(name)
        return not absent

    def just_one(self, *names: str) -> bool:
        """Whether just one of them is there; anything else is reported."""
        there = [name for name in names if name in self._fields]
        listed = " or ".join(f"`{name}`" for name in names)
        if not there:
            assert self._whole is not None
            self._whole.wrong(f"there is no {listed}", hint="one of them says when it is a breach")
        elif len(there) > 1:
            self._fields[there[1]].wrong(f"{listed}, not both", hint="make it two rules")
        return len(there) == 1

    def text(self, name: str, default: str) -> str:
        """A text."""
        if name not in self._fields:
            return default
        return self._fields[name].text() or default

    def texts(self, name: str) -> frozenset[str]:
        """A list of texts."""
        if name not in self._fields:
            return frozenset()
        return frozenset(text for text, _ in self._fields[name].texts())

    def choice(
        self,
        name: str,
        known: Sequence[str],
        what: str,
        default: str | None,
        *,
        required: bool = True,
    ) -> str | None:
        """One of the known texts; without a default it must be there, unless not `required`."""
        if name in self._fields:
            return self._fields[name].choice([str(each) for each in known], what) or default
        if default is None and required:
            self.missing(name, ", ".join(known))
        return default

    def boolean(self, name: str, *, default: bool) -> bool:
        """`true` or `false`."""
        value = self._fields[name].boolean() if name in self._fields else None
        return default if value is None else value

    def number(self, name: str, default: int, *, least: int) -> int:
        """A whole number."""
        if name not in self._fields:
            return default
        value = self._fields[name].number(f"a number for `{name}`", least=least)
        return default if value is None else value

    def duration(
        self, name: str, default: int, *, least: int, step: int = 1, most: int = _LONGEST_S
    ) -> int:
        """Seconds, written as 90s, 5m, 24h, 7d."""
        text = self._written(name, "a duration")
        if text is None:
            return default
        value = self._fields[name]
        if text in ("0", "0s") and least == 0:
            return 0
        try:
            seconds = seconds_of(text)
        except ValueError as exc:
            value.wrong(str(exc), hint="write 30s, 5m, 24h or 7d")
            return default
        if not least <= seconds <= most:
            value.wrong(f"`{name}` is from {shown(least)} to {shown(most)}, not {text}")
        elif seconds % step:
            value.wrong(
                f"`{name}` is a multiple of {shown(step)}, not {text}",
                hint=f"metrics come in windows of {shown(step)}",
            )
        return seconds

    def share(self, name: str, default: float, *, least: float = 0.0, most: float = 1.0) -> float:
        """A share: 20% or 0.2."""
        text = self._written(name, "a share")
        if text is None:
            return default
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text)
        share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
        if found is None:
            self._fields[name].wrong(f"`{text}` is no share", hint="write 20% or 0.2")
        elif not least <= share <= most:
            hint = f"did you mean `{text}%`?" if share > 1 and not found[2] else "write 20% or 0.2"
            self._fields[name].wrong(
                f"`{name}` is from {least * 100:g}% to {most * 100:g}%, not {text}", hint=hint
            )
        return share

    def amount(self, name: str, default: float) -> float:
        """A number."""
        text = self._written(name, "a number")
        if text is None:
            return default
        if not re.fullmatch(r"[+-]?\d[\d_]*(?:\.\d+)?", text):
            self._fields[name].wrong(f"`{text}` is no number")
            return default
        return float(text)

    def factor(self, name: str, default: float) -> float:
        """A factor above 1: 2x, 1.5."""
        text = self._written(name, "a factor")
        if text is None:
            return default
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*x?", text)
        if found is None or float(found[1]) <= 1:
            self._fields[name].wrong(f"`{text}` is no factor above 1", hint="write 2x or 1.5x")
            return default
        return float(found[1])

    def _written(self, name: str, what: str) -> str | None:
        return self._fields[name].text(what=what) if name in self._fields else None
