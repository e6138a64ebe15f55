"""Who is at this browser, and the page that asks.

Invariant: the answer is looked up on every run, so that a user who was taken away is out with
their next click; without an answer nothing but the sign-in page is drawn.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import streamlit as st

from dashboard import page
from dashboard.people import Person, Role
from dashboard.sign_in import (
    Gate,
    Mode,
    installation_secret,
    oidc_person,
    sign_in_mode,
)
from stream.errors import TidegateError

_NAME: Final = "signed_in_name"


@st.cache_resource
def _gate() -> Gate:
    return Gate(page.settings().dashboard.users)


@st.cache_resource
def _mode() -> Mode:
    return sign_in_mode(page.settings().dashboard)


def signed_in() -> Person | None:
    """Who is at this browser; None: nobody has signed in.

    Without sign-in, on loopback, everybody may do everything, and each browser is another person:
    else two of them would have the same post in hand.
    """
    mode = _mode()
    if mode == "off":
        found: object = st.context.cookies.get("_streamlit_xsrf")
        # In Streamlit's test bench a cookie is no text.
        cookie = (
            found
            if isinstance(found, str) and found
            else st.session_state.setdefault("browser", secrets.token_hex(8))
        )
        digest = hashlib.sha256(cookie.encode()).hexdigest()[:8]
        return Person("local", Role.ADMIN, f"local-{digest}")
    if mode == "oidc":
        if not st.user.is_logged_in:
            return None
        own = page.settings().dashboard
        return oidc_person(
            str(st.user.get("email") or ""),
            st.user.get("email_verified"),
            own.oidc_roles,
            installation_secret(own.users),
        )
    name = st.session_state.get(_NAME)
    return None if name is None else _gate().person(name)


def somebody_is_in() -> bool:
    """Whether there is anything to show beside the sign-in page."""
    try:
        return signed_in() is not None
    except TidegateError:
        return False


def gate() -> None:
    """Draw the sign-in page and nothing else, until somebody has signed in."""
    try:
        person = signed_in()
        mode = _mode()
    except TidegateError as error:
        st.error(error.hint or "", title=error.message, icon=":material/lock:")
        st.stop()
    if mode == "off":
        return
    if person is None:
        _ask(mode)
        st.stop()
    with st.sidebar:
        st.caption(f":material/person: {person.role.value}, {person.pseudonym}")
        if st.button("Sign out", icon=":material/logout:"):
            if mode == "oidc":
                # No run after this one: it would take the place of the way to the provider, and the
                # browser would keep its cookie.
                st.logout()
                st.stop()
            st.session_state.pop(_NAME, None)
            st.rerun()


def _ask(mode: Mode) -> None:
    _, middle, _ = st.columns([1, 1, 1])
    with middle.container(border=True):
        st.subheader(":material/lock: Sign in", anchor=False)
        if mode == "oidc":
            if st.user.is_logged_in:
                st.warning(
                    "Ask an administrator: `dashboard.oidc_roles` names who may do what.",
                    title="Your account has no role here",
                )
                if st.button("Sign out", icon=":material/logout:"):
                    st.logout()
            elif st.button("Sign in with your organisation", type="primary", width="stretch"):
                st.login()
            return
        with st.form("sign-in", border=False, clear_on_submit=False):
            name = st.text_input("Name", autocomplete="username")
            password = st.text_input("Password", type="password", autocomplete="current-password")
            entered = st.form_submit_button("Sign in", type="primary", width="stretch")
        if entered:
            try:
                person = _gate().enter(name.strip(), password)
            except TidegateError as error:
                hint = f": {error.hint}" if error.hint else ""
                st.error(f"{error.message[:1].upper()}{error.message[1:]}{hint}")
            else:
                st.session_state[_NAME] = person.name
                st.rerun()
