"""Review: one post at a time, judged by keyboard, beside the policy that sent it here."""

from __future__ import annotations

from dashboard import acting, headline, review_queue
from dashboard.people import Role

headline.status_line()
person = acting.person_for(Role.MODERATOR)
if person is not None:
    review_queue.controls(person)
    review_queue.desk(person)
    review_queue.keep_in_hand()
