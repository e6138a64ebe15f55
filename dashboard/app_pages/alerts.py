"""Alerts: what fires, what fired, why, and what was done about it."""

from __future__ import annotations

from dashboard import acting, alert_cards, headline
from dashboard.people import Role
from dashboard.post_drawer import show_post_of_url

headline.status_line()
if acting.person_for(Role.VIEWER) is not None:
    alert_cards.controls()
    alert_cards.cards()
    show_post_of_url()
