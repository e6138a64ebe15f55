"""Review, post by post: claim, show, act, and only then the next.

Invariant: the next post is claimed after the broker has confirmed the review of the one before;
an act that fails leaves its post on the page with the reason why.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import streamlit as st

from dashboard import acting, actions, headline, page
from dashboard.desk import Claim
from dashboard.languages import language_code, language_name
from dashboard.people import Person, Role
from dashboard.policy_in_force import policy_in_force, threshold_of
from dashboard.queries.decisions import author_posts, decision_of, reviews_of
from dashboard.queries.queue import passed_count, queue_counts
from dashboard.reader import Reader
from dashboard.review_card import Case, case_data, show_card
from dashboard.review_stretch import ReviewStretch
from stream.errors import TidegateError
from stream.outcomes import Action
from stream.policy.reasons import REASONS
from stream.records import decode_label

_AUTHORS_POSTS: Final = 6
#: How often within `dashboard.claim_s` a browser asks for more time: a few may fail.
_RENEWALS: Final = 5
#: Nobody reads one post for longer; who left it open would keep it from the others.
_READING_MS: Final = 30 * 60_000
_WORDS: Final = {"skip": "skipped", "escalate": "escalated"}
_SEVERITY_ICON: Final = {
    "critical": ("crisis_alert", "red"),
    "high": ("priority_high", "red"),
    "medium": ("warning", "orange"),
    "low": ("low_priority", "gray"),
    "info": ("info", "gray"),
}


def controls(person: Person) -> None:
    """What is in the queue, and which part of it this person takes; the choice is in the URL."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _counts()  # as wide as the rest leaves room
        st.multiselect(
            "Languages",
            page.names("languages"),
            format_func=language_name,
            key="language",
            bind="query-params",
            accept_new_options=True,
            placeholder="All languages",
            label_visibility="collapsed",
            width=230,
        )
        if person.may(Role.ADMIN):
            st.toggle(
                "Escalated only",
                key="escalated",
                bind="query-params",
                help="Posts that a moderator handed on.",
            )
        st.toggle(
            "Passed too",
            key="passed",
            bind="query-params",
            help="Also the posts that you skipped or escalated.",
        )
        with st.popover("Keys", icon=":material/keyboard:"):
            _keys()


@st.fragment(run_every=5)
def _counts() -> None:
    with page.reading() as reader:
        counts = [] if reader is None else queue_counts(reader.db)
    now = page.now_ms()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("**:material/inbox: Queue**", width="content")
        for count in counts:
            icon, colour = _SEVERITY_ICON[count.severity]
            age = page.span(max(now - count.oldest_ms, 0) / 1000)
            st.badge(
                f"{count.posts:,} {count.severity} · {age}",
                icon=f":material/{icon}:",
                color=colour,  # type: ignore[arg-type] # of the table above
                help=f"{count.escalated:,} of them escalated; the oldest waits for {age}.",
            )
        if not counts:
            st.badge("empty", icon=":material/check_circle:", color="green")


def _keys() -> None:
    st.markdown(
        "| Key | |\n|---|---|\n| `A` `F` `L` `H` `D` | allow, flag, limit, hide, remove |\n"
        "| `1`–`9`, `Enter` | the reason, where one is needed |\n| `S` `E` | skip, escalate |\n"
        "| `U` | take the last one back |\n| `N` | write a note |\n"
        "| `V` or `Space` | show the text, veil it |\n| `G` | colour or grey |\n| `B` | take a break |"
    )


def keep_in_hand() -> None:
    """Renew the claim on the post that is shown, while a browser shows it.

    The browser asks for it: one that is closed, or asleep, asks no more, and the claim runs out.
    So does that of a moderator who has left: after `_READING_MS` with the same post it is not
    renewed.
    """

    @st.fragment(run_every=max(page.settings().dashboard.claim_s / _RENEWALS, 2))
    def renew() -> None:
        state, now = st.session_state, page.now_ms()
        claim: Claim | None = state.get("review_claim")
        if claim is None or state.get("review_break_ms") or now - claim.claimed_ms > _READING_MS:
            return
        # One that fails is asked for again; a claim that is lost says so when it is used.
        with suppress(TidegateError), acting.at_desk() as at_desk:
            at_desk.renew(claim, now)

    renew()


@st.fragment
def desk(person: Person) -> None:
    """One post, or why there is none."""
    state = st.session_state
    if state.get("review_break_ms"):
        _on_break()
        return
    now = page.now_ms()
    with page.reading() as reader, acting.at_desk() as at_desk:
        if reader is None:
            headline.first_steps()
            return
        if post_id := st.query_params.pop("post", None):
            with acting.attempt("This post cannot be reviewed now"):
                at_desk.claim(reader.db, post_id, person.pseudonym, now)
        claim = at_desk.claim_next(reader.db, person.pseudonym, now, **_wanted(person))
        case = None if claim is None else _case(reader, claim)
    state["review_claim"] = claim
    if claim is None or case is None:
        acting.show_failure()
        _nothing_to_do(person)
        return
    stretch = state.get("review_stretch") or ReviewStretch(now, now)
    state["review_stretch"] = stretch = stretch.at(now)
    data = case_data(
        case, policy_in_force(), threshold_of, page.settings().dashboard.reason_required, now
    )
    data["seq"] = state.get("review_seq", 0)
    data["undo"] = _undo_words(person)
    data["failure"] = acting.failure()
    data["reminder"] = (
        f"You have reviewed {stretch.posts:,} posts in {page.span((now - stretch.began_ms) / 1000)}"
        " without a break. Ten minutes away from the screen do good."
        if stretch.due(now)
        else None
    )
    show_card(data, key="review", on_act=act)


def act(asked: dict[str, Any]) -> None:
    """What the reviewer asked for: a callback, so that it is done before anything is drawn."""
    state = st.session_state
    claim: Claim | None = state.get("review_claim")
    state["review_seq"] = state.get("review_seq", 0) + 1
    if claim is None or asked.get("claim") != claim.claim_id:
        return  # of a post that is not here any more: a key pressed twice
    now = page.now_ms()
    verb = asked.get("verb")
    if verb == "undo":
        take_back()
    elif verb == "later":
        state["review_stretch"] = state["review_stretch"].later(now)
    elif verb == "break":
        with acting.attempt("No break"), acting.at_desk() as at_desk:
            at_desk.release(claim)
            state["review_break_ms"] = now
    else:
        _judge(claim, asked, now)


def _judge(claim: Claim, asked: dict[str, Any], now: int) -> None:
    verb, reason, note = asked.get("verb"), asked.get("reason"), asked.get("note") or None
    with acting.attempt("Not done"), page.reading() as reader, acting.at_desk() as at_desk:
        if reader is None:
            return
        who, at = acting.actor(), actions.Workplace(at_desk, reader.db, acting.writer())
        if verb == "decide":
            action = Action(asked["action"])
            sent = actions.decide(
                who,
                at,
                claim,
                action,
                now,
                reason=reason if reason in REASONS else None,
                note=note,
                reason_required=page.settings().dashboard.reason_required,
            )
            said = f"{action}, {reason}" if reason else str(action)
        elif verb == "skip":
            sent, said = actions.skip(who, at, claim, now), _WORDS["skip"]
        elif verb == "escalate":
            sent, said = actions.escalate(who, at, claim, now, note=note), _WORDS["escalate"]
        else:
            return
        _done(sent.review_id, said, now)


def take_back() -> None:
    """Take back what this person sent last: a callback."""
    with acting.attempt("Not taken back"), page.reading() as reader, acting.at_desk() as at_desk:
        who = acting.actor()
        last = at_desk.last_sent(who.pseudonym)
        if reader is None or last is None:
            return
        at = actions.Workplace(at_desk, reader.db, acting.writer())
        actions.undo(who, at, last.review_id, page.now_ms())
        st.session_state.setdefault("review_said", {}).pop(last.review_id, None)


def _done(review_id: str, said: str, now: int) -> None:
    state = st.session_state
    state.setdefault("review_said", {})[review_id] = said
    state["review_stretch"] = state["review_stretch"].reviewed(now)


def _undo_words(person: Person) -> str | None:
    """What `U` would take back."""
    with acting.at_desk() as at_desk:
        last = at_desk.last_sent(person.pseudonym)
    if last is None:
        return None
    said: dict[str, str] = st.session_state.get("review_said", {})
    return said.get(last.review_id, _WORDS.get(last.verdict, "decided"))


def _wanted(person: Person) -> dict[str, Any]:
    state = st.session_state
    escalated = (True if state.get("escalated") else None) if person.may(Role.ADMIN) else False
    return {
        "languages": tuple(language_code(name) for name in state.get("language") or ()),
        "escalated": escalated,
        "passed": bool(state.get("passed")),
    }


def _case(reader: Reader, claim: Claim) -> Case | None:
    found = reader.post(claim.post.post_id)
    if found is None:
        return None
    view, record = found
    return Case(
        claim,
        view,
        decode_label(record),
        decision_of(reader.db, view.post_id),
        author_posts(reader.db, view.author, _AUTHORS_POSTS + 1),
        reviews_of(reader.db, view.post_id),
    )


def _on_break() -> None:
    began = st.session_state["review_break_ms"]

    def resume() -> None:
        st.session_state["review_break_ms"] = None
        st.session_state["review_stretch"] = ReviewStretch(page.now_ms(), page.now_ms())

    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.space("medium")
        st.markdown("### :material/self_improvement: On a break", text_alignment="center")
        st.markdown(
            f"Since {page.utc(began)}. Your post went back to the queue; nobody waits for you.",
            text_alignment="center",
        )
        st.button("Go on", type="primary", shortcut="Enter", on_click=resume)
        st.space("medium")


@st.fragment(run_every=2)
def _nothing_to_do(person: Person) -> None:
    """Nothing for this person: what there is, in whose hands, and what may be taken back.

    It looks again every two seconds, and shows a post as soon as there is one.
    """
    wanted, now = _wanted(person), page.now_ms()
    with page.reading() as reader, acting.at_desk() as at_desk:
        if reader is None:
            return
        if at_desk.claim_next(reader.db, person.pseudonym, now, **wanted) is not None:
            st.rerun(scope="app")
        in_hand = at_desk.in_hand(now)
        passed = passed_count(reader.db, person.pseudonym)
        waiting = sum(count.posts for count in queue_counts(reader.db))
    undo = _undo_words(person)
    reviewed = len(st.session_state.get("review_said", {}))
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.space("medium")
        title = "The queue is empty" if not waiting else "Nothing here for you"
        st.markdown(f"### :material/done_all: {title}", text_alignment="center")
        said = []
        if reviewed:
            said.append(f"You reviewed **{reviewed:,}** in this session.")
        if in_hand:
            said.append(f"**{in_hand:,}** in other people's hands right now.")
        if passed and not wanted["passed"]:
            said.append(f"**{passed:,}** that you skipped or escalated: *Passed too* shows them.")
        if wanted["languages"]:
            said.append("Other languages are filtered out.")
        if wanted["escalated"]:
            said.append("Only what was escalated is looked for.")
        if waiting and not (in_hand or passed or wanted["languages"] or wanted["escalated"]):
            said.append(f"**{waiting:,}** were judged just now, or wait for an administrator.")
        said.append("A post that the policy sends to review appears here by itself.")
        st.markdown("  \n".join(said), text_alignment="center")
        if undo:
            st.button(
                f"Take the last one back ({undo})",
                icon=":material/undo:",
                shortcut="u",
                on_click=take_back,
            )
        st.space("medium")
