"""A mail of one or several records: plain text, no HTML, and headers that nothing can break out of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from stream.hooks.escaping import cut, for_people, one_line
from stream.hooks.events import Event
from stream.hooks.targets import Email
from stream.hooks.templates import Texts

_SUBJECT_CHARS: Final = 200
_TEXT_CHARS: Final = 5000


class MailFormat:
    """Mails of an `email` target."""

    def __init__(self, target: Email) -> None:
        self._target = target
        self._texts = Texts(target.template, for_people)

    def mail(self, events: Sequence[Event], at: datetime) -> EmailMessage:
        """One mail; its Message-ID is the same whenever the same events are sent."""
        messages = [self._texts.message(event) for event in events]
        subject = one_line(messages[0].title) or "Tidegate"
        if len(events) > 1:
            subject = f"{len(events)} records, the first: {subject}"
        mail = EmailMessage(policy=policy.SMTP)
        mail["Subject"] = cut(f"[Tidegate] {subject}", _SUBJECT_CHARS)
        mail["From"] = self._target.sender
        mail["To"] = ", ".join(self._target.to)
        mail["Date"] = format_datetime(at)
        mail["Message-ID"] = f"<{mail_id(events)}@tidegate.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        parts = [
            f"{cut(message.title, _SUBJECT_CHARS)}\n\n{cut(message.text, _TEXT_CHARS)}\n\n"
            f"id: {event.message_id} ({event.type})\n"
            for event, message in zip(events, messages, strict=True)
        ]
        mail.set_content("\n----\n\n".join(parts).encode("utf-8", "replace").decode())
        return mail


def mail_id(events: Sequence[Event]) -> str:
    """The id of a mail: the event's, or one made of all of them."""
    if len(events) == 1:
        return events[0].message_id
    names = "\n".join(event.message_id for event in events).encode()
    return f"msg_{hashlib.blake2b(names, digest_size=16).hexdigest()}"
