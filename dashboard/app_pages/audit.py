"""Audit: who did what, when, to what; every decision, every review, every change."""

from __future__ import annotations

from dashboard import acting, audit_view, headline
from dashboard.people import Role

headline.status_line()
person = acting.person_for(Role.MODERATOR)
if person is not None:
    audit_view.controls()
    audit_view.chain_state()
    audit_view.entries()
    audit_view.export(person)
