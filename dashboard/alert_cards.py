"""Alerts, one card an episode: what was seen, the chart, examples, and what people do about it."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboard import acting, actions, page
from dashboard.alert_chart import episode_chart
from dashboard.alert_examples import show_examples
from dashboard.alert_series import series_of, stretch_of
from dashboard.drawing import show_chart
from dashboard.people import Person, Role
from dashboard.post_drawer import open_post
from dashboard.queries.alerts import AlertView, alerts, mutes
from dashboard.reader import Reader
from stream.alerts.load import load_rules
from stream.alerts.rules import Rule
from stream.alerts.words import span
from stream.errors import TidegateError
from stream.outcomes import Alert

_RANGES: Final = {"24 h": 86_400, "7 d": 7 * 86_400, "30 d": 30 * 86_400, "90 d": 90 * 86_400}
_STATES: Final = ("All", "Firing", "Past")
_MOST: Final = 200
#: Cards at a time: each is a dozen elements, drawn anew every few seconds.
_CARDS: Final = 20
#: Cards that are open with their chart when the page opens.
_OPEN: Final = 3
_SHOWN: Final = "alert_cards_shown"
_MUTES: Final = {
    "1 h": 3600,
    "8 h": 8 * 3600,
    "24 h": 86_400,
    "7 d": 7 * 86_400,
    "30 d": 30 * 86_400,
}
_SEVERITY: Final = {
    "critical": ("crisis_alert", "red"),
    "high": ("priority_high", "red"),
    "medium": ("warning", "orange"),
    "low": ("low_priority", "gray"),
    "info": ("info", "gray"),
}


@st.cache_resource(ttl=5)
def _rules() -> dict[str, Rule]:
    """The alert rules by id; those in force, as far as the file can be read."""
    try:
        return {rule.id: rule for rule in load_rules(page.settings().alerts.path).rules}
    except TidegateError:
        return {}


def controls() -> None:
    """Which episodes; the choice is in the URL."""
    with page.reading() as reader:
        names = [] if reader is None else _rule_names(reader)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "State",
            list(_STATES),
            default="All",
            required=True,
            key="state",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.segmented_control(
            "Range",
            list(_RANGES),
            default="7 d",
            required=True,
            key="began",
            bind="query-params",
            label_visibility="collapsed",
        )
        st.multiselect(
            "Rules",
            names,
            key="rule",
            bind="query-params",
            accept_new_options=True,
            placeholder="All rules",
            label_visibility="collapsed",
            width=260,
        )


@st.fragment(run_every=5)
def cards() -> None:
    """The episodes, firing ones first; kept up to date."""
    state, now = st.session_state, page.now_ms()
    wanted = state.get("state") or "All"
    length = _RANGES[state.get("began") or "7 d"]
    chosen = set(state.get("rule") or ())
    with page.reading() as reader:
        if reader is None:
            return
        found = alerts(
            reader.db,
            now,
            firing={"Firing": True, "Past": False}.get(wanted),
            from_ms=now - length * 1000,
            limit=_MOST,
        )
        muted = mutes(reader.db, now)
        shown = [view for view in found if not chosen or view.alert.rule in chosen]
        acting.show_failure()
        _summary(shown, muted, more=len(found) == _MOST)
        if not shown:
            _nothing(wanted)
            return
        who, most = acting.person(), state.get(_SHOWN, _CARDS)
        for n, view in enumerate(shown[:most]):
            _card(reader, view, who, now, whole=n < _OPEN)
    if len(shown) > most:
        st.button(
            f"Show {min(_CARDS, len(shown) - most)} more of {len(shown) - most}",
            icon=":material/expand_more:",
            key="alerts-more",
            on_click=lambda: state.update({_SHOWN: most + _CARDS}),
            width="stretch",
        )


def _rule_names(reader: Reader) -> list[str]:
    seen = [row[0] for row in reader.db.execute("SELECT DISTINCT rule FROM alerts ORDER BY rule")]
    return list(dict.fromkeys([*seen, *_rules()]))


def _summary(shown: list[AlertView], muted: dict[str, int], *, more: bool) -> None:
    firing = sum(view.firing for view in shown)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if firing:
            st.badge(f"{firing} firing", icon=":material/notifications_active:", color="red")
        else:
            st.badge("nothing fires", icon=":material/check_circle:", color="green")
        st.badge(
            f"{len(shown) - firing}{'+' if more else ''} past",
            icon=":material/history:",
            color="gray",
        )
        for rule, until in sorted(muted.items()):
            st.badge(
                f"{rule} muted until {page.utc(until)}",
                icon=":material/notifications_off:",
                color="orange",
            )


def _nothing(wanted: str) -> None:
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(
            "##### :material/notifications: No alert here"
            if wanted != "Firing"
            else "##### :material/notifications: Nothing fires",
            text_alignment="center",
        )
        rules = _rules()
        said = (
            f"{sum(rule.on for rule in rules.values())} rules watch" if rules else "No rule watches"
        )
        st.caption(
            f"{said} the stream. `tidegate alerts list` names them; a longer range shows older ones.",
            text_alignment="center",
        )
        st.space("small")


def _card(reader: Reader, view: AlertView, who: Person | None, now: int, *, whole: bool) -> None:
    alert = view.alert
    icon, colour = _SEVERITY[alert.severity]
    ended = view.resolved_ms or (now if view.firing else view.at_ms)
    with st.container(border=True, gap="small", key=f"alert-{alert.alert_id}"):
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            if view.firing:
                st.badge("firing", icon=":material/notifications_active:", color="red")
            else:
                st.badge("resolved", icon=":material/check_circle:", color="green")
            st.badge(alert.severity, icon=f":material/{icon}:", color=colour)  # type: ignore[arg-type] # of the table above
            if alert.test:
                st.badge("test", icon=":material/science:", color="gray")
            if view.acknowledged_by:
                st.badge(
                    f"acknowledged by {view.acknowledged_by}",
                    icon=":material/visibility:",
                    color="blue",
                )
            if view.muted_until_ms:
                st.badge(
                    f"muted until {page.utc(view.muted_until_ms)}",
                    icon=":material/notifications_off:",
                    color="orange",
                )
        # Summaries name tags and terms that people wrote: text, not Markdown.
        st.text(alert.summary)
        st.caption(_when(view, ended))
        if whole or st.toggle("Chart and examples", key=f"more-{alert.alert_id}"):
            _chart(reader, view, ended)
            _examples(reader, view)
        _buttons(view, who, now)


def _when(view: AlertView, ended: int) -> str:
    alert = view.alert
    lasted = span(max(ended - view.started_ms, 0) // 1000)
    parts = [
        alert.rule,
        f"since {page.utc(view.started_ms)}" if view.firing else page.utc(view.started_ms),
        f"for {lasted}" if view.firing else f"lasted {lasted}",
        f"seen {number(alert.observed, alert.unit)}" if alert.observed is not None else "",
        f"expected {number(alert.expected, alert.unit)}" if alert.expected is not None else "",
        f"threshold {number(alert.threshold, alert.unit)}" if alert.threshold is not None else "",
        _counted(alert.posts, "post"),
        _counted(alert.authors, "author"),
    ]
    return " · ".join(part for part in parts if part)


def _counted(count: int | None, word: str) -> str:
    return "" if count is None else f"{count:,} {word}{'' if count == 1 else 's'}"


def number(value: float, unit: str | None) -> str:
    """A figure of an alert with its unit."""
    if unit == "share":
        return f"{value:.1%}"
    shown = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"
    return f"{shown} {unit}" if unit else shown


def _chart(reader: Reader, view: AlertView, ended: int) -> None:
    started_s, ended_s = view.started_ms // 1000, max(ended // 1000, view.started_ms // 1000 + 10)
    from_s, to_s = stretch_of(started_s, ended_s)
    to_s = min(to_s, page.now_ms() // 1000)
    series = series_of(reader.db, view.alert, _rules().get(view.alert.rule), from_s, to_s)
    if not series.points:
        st.caption(series.why_not or "There is nothing to draw of that time.")
        return
    show_chart(
        episode_chart(series, view.alert, started_s, min(ended_s, to_s), dark=page.dark()),
        alt=f"{series.what[:1].upper()}{series.what[1:]} over time, UTC, from {page.utc(from_s * 1000)} to {page.utc(to_s * 1000)}."
        f" The episode is shaded; lines mark the threshold and what was expected. {_alt(view.alert)}",
        key=f"chart-{view.alert.alert_id}",
    )


def _alt(alert: Alert) -> str:
    if alert.observed is None:
        return ""
    against = alert.expected if alert.expected is not None else alert.threshold
    beside = f" against {number(against, alert.unit)}" if against is not None else ""
    return f"Seen: {number(alert.observed, alert.unit)}{beside}."


def _examples(reader: Reader, view: AlertView) -> None:
    if examples := view.examples:
        show_examples(
            examples,
            reader.views([example.post_id for example in examples]),
            key=f"examples-{view.alert.alert_id}",
            on_open=open_post,
        )


def _buttons(view: AlertView, who: Person | None, now: int) -> None:
    alert = view.alert
    moderator = who is not None and who.may(Role.MODERATOR)
    analyst = who is not None and who.may(Role.ANALYST)
    key = alert.alert_id
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            "Acknowledge" if not view.acknowledged_by else "Acknowledged",
            icon=":material/visibility:",
            key=f"ack-{key}",
            disabled=not moderator or bool(view.acknowledged_by),
            on_click=_acknowledge,
            args=(alert.alert_id,),
        )
        with st.popover(
            "Mute", icon=":material/notifications_off:", key=f"mute-{key}", disabled=not moderator
        ):
            st.text(
                f"Rule {alert.rule}: hooks tell nobody of alerts that begin meanwhile. What still"
                " fires when the mute ends is told then."
            )
            for words, length in _MUTES.items():
                st.button(
                    f"For {words}",
                    key=f"mute-{key}-{words}",
                    on_click=_mute,
                    args=(alert.rule, now + length * 1000),
                )
            if view.muted_until_ms:
                st.button("End the mute", key=f"unmute-{key}", on_click=_mute, args=(alert.rule, 0))
        st.button(
            "Worth it", icon=":material/thumb_up:", key=f"up-{key}", disabled=not analyst,
            on_click=_rate, args=(alert.alert_id, True),
        )  # fmt: skip
        st.button(
            "Noise", icon=":material/thumb_down:", key=f"down-{key}", disabled=not analyst,
            on_click=_rate, args=(alert.alert_id, False),
        )  # fmt: skip
        if view.thumbs:
            st.caption(f"rated {view.thumbs:+d}")


def _acknowledge(alert_id: str) -> None:
    with acting.attempt("Not acknowledged"):
        actions.acknowledge_alert(acting.actor(), acting.writer(), alert_id, page.now_ms())
        st.toast("Acknowledged. It shows here in a moment.", icon=":material/visibility:")


def _mute(rule: str, until_ms: int) -> None:
    with acting.attempt("Not muted"):
        actions.mute_alerts(acting.actor(), acting.writer(), rule, until_ms, page.now_ms())
        st.toast(
            "Muted." if until_ms else "The mute has ended.", icon=":material/notifications_off:"
        )


def _rate(alert_id: str, up: bool) -> None:
    with acting.attempt("Not rated"):
        actions.rate_alert(acting.actor(), acting.writer(), alert_id, page.now_ms(), up=up)
        st.toast("Noted: it counts when rules are tuned.", icon=":material/thumbs_up_down:")
