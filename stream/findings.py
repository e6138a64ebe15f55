"""What `tidegate doctor` says: one finding a line, each with what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class State(StrEnum):
    """How a thing is. Part of `doctor --json`: never renamed."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    `missing` is something optional that is not there; `broken` is something that is there and
    does not work, or that is required and not there. `required` says whether Tidegate's main job
    needs it, so a broken one that is not required fails nobody.
    """

    group: str
    name: str
    state: State
    required: bool
    detail: str
    fix: str | None = None

    @property
    def fatal(self) -> bool:
        """Whether Tidegate cannot do its job because of this."""
        return self.required and self.state is not State.OK


def ok(group: str, name: str, detail: str, *, required: bool = False) -> Finding:
    """It is there and works."""
    return Finding(group=group, name=name, state=State.OK, required=required, detail=detail)


def missing(group: str, name: str, detail: str, fix: str) -> Finding:
    """It is optional and not there."""
    return Finding(
        group=group, name=name, state=State.MISSING, required=False, detail=detail, fix=fix
    )


def broken(
    group: str, name: str, detail: str, fix: str | None, *, required: bool = True
) -> Finding:
    """It does not work, or is required and not there."""
    return Finding(
        group=group, name=name, state=State.BROKEN, required=required, detail=detail, fix=fix
    )
