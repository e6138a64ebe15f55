"""Who uses the dashboard, and what they may do: checked in every action, not only in the menu.

Invariant: an action that needs a role begins with `require`; a page that hides a button hides
nothing that the action would allow. Topics and the read model know people by pseudonym only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

from dashboard.errors import NotAllowedError


class Role(StrEnum):
    """What a person may do; each may do everything that the ones before it may."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    MODERATOR = "moderator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0 for `viewer` to 3 for `admin`."""
        return _RANKS[self]


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}

#: What each role adds, as the sign-in page and the documentation say it.
MAY: Final = {
    Role.VIEWER: "see Live, Trends, Alerts, Models and System",
    Role.ANALYST: "save topics and brands, export, try thresholds, rate alerts",
    Role.MODERATOR: "review posts, see Audit, acknowledge and mute alerts, replay dead letters",
    Role.ADMIN: "change and promote rules, see escalated posts",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at the dashboard; `pseudonym` is what topics and audit call them."""

    name: str
    role: Role
    pseudonym: str

    def may(self, role: Role) -> bool:
        """Whether this person may do what needs the role."""
        return self.role.rank >= role.rank


def require(person: Person | None, role: Role) -> Person:
    """The person, who may do what needs the role.

    Raises:
        NotAllowedError: nobody is signed in, or their role is not enough.
    """
    if person is None:
        raise NotAllowedError("nobody is signed in", hint="sign in and try again")
    if not person.may(role):
        raise NotAllowedError(
            f"this needs the role `{role}`, and yours is `{person.role}`",
            hint="an administrator can change roles: `tidegate dashboard add-user NAME --role ROLE`",
        )
    return person


P = ParamSpec("P")
R = TypeVar("R")


def needs(
    role: Role,
) -> Callable[[Callable[Concatenate[Person, P], R]], Callable[Concatenate[Person, P], R]]:
    """For actions whose first argument is the person: check the role before anything happens."""

    def guard(
        action: Callable[Concatenate[Person, P], R],
    ) -> Callable[Concatenate[Person, P], R]:
        @functools.wraps(action)
        def guarded(person: Person, *args: P.args, **kwargs: P.kwargs) -> R:
            return action(require(person, role), *args, **kwargs)

        return cast("Callable[Concatenate[Person, P], R]", guarded)

    return guard
