"""Who acts on a page, and through what: the person, the writer, the desk, and what went wrong.

Invariant: what a person asked for is either done, and confirmed by the broker, or the page says why
not; an action's error is never swallowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import streamlit as st

from dashboard import page
from dashboard.desk import Desk, open_desk
from dashboard.people import MAY, Person, Role, require
from dashboard.signed_in import signed_in
from dashboard.writer import TopicWriter, Writer
from stream.errors import TidegateError

_FAILED: Final = "acting_failed"


@st.cache_resource
def writer() -> Writer:
    """The one connection to the topics of this process."""
    return TopicWriter(page.settings().kafka)


@contextmanager
def at_desk() -> Iterator[Desk]:
    """The desk beside the read model."""
    own = page.settings().dashboard
    with open_desk(own.database, own.claim_s, kept=True) as desk:
        yield desk


def person() -> Person | None:
    """Who is at this browser; None: nobody is signed in."""
    return signed_in()


def actor() -> Person:
    """Who acts.

    Raises:
        NotAllowedError: nobody is signed in.
    """
    return require(person(), Role.VIEWER)


def person_for(role: Role) -> Person | None:
    """Who is at this browser, if they may; the page says so where they may not.

    This is for the menu's sake: every action checks again.
    """
    who = person()
    if who is None:
        st.info("Sign in to see this page.", title="Nobody is signed in", icon=":material/lock:")
        return None
    if not who.may(role):
        st.info(
            f"It is for the role **{role}**, who may {MAY[role]}. Yours is **{who.role}**. An"
            " administrator can change that: `tidegate dashboard add-user NAME --role ROLE`",
            title="This page is not for your role",
            icon=":material/lock:",
        )
        return None
    return who


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """An action: its error is kept for `show_failure`, so that a callback may fail in words."""
    st.session_state.pop(_FAILED, None)
    try:
        yield
    except TidegateError as error:
        st.session_state[_FAILED] = (what, error.message, error.hint)


def failure() -> str | None:
    """What went wrong with the last action, in one line."""
    found = st.session_state.get(_FAILED)
    return None if found is None else f"{found[0]}: {found[1]}"


def show_failure() -> None:
    """What went wrong with the last action."""
    found = st.session_state.get(_FAILED)
    if found is not None:
        what, message, hint = found
        said = f"{message[:1].upper()}{message[1:]}.{f' {hint[:1].upper()}{hint[1:]}.' if hint else ''}"
        st.error(said, title=what, icon=":material/error:")
