"""The policy in force: rules, compiled, and their verdict on a post.

Invariant: a verdict depends on the subject, its history and the policy's content alone, not on
the order of posts, of rules of the same rank, or of threads. A `Policy` never changes; it may be
used by several threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stream.outcomes import Action, Severity
from stream.policy.history import NO_HISTORY, History, Window
from stream.policy.subject import Subject
from stream.policy.verdict import Verdict

Mode = Literal["live", "shadow", "off"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it stands in the file.

    `quota` is the most posts a day on which a strong action of the rule may fall, enforced by
    whoever sends decisions. `languages` empty: all of them. After `expires_at` it is off.
    """

    id: str
    version: str
    when: str
    action: Action
    severity: Severity
    reason: str
    mode: Mode = "live"
    description: str = ""
    languages: tuple[str, ...] = ()
    expires_at: datetime | None = None
    priority: int = 0
    quota: int | None = None
    where: str = ""


class Policy:
    """Rules, lists and safelists, checked and compiled; made by `load_policy`.

    Attributes:
        version: of the content: the same rules and lists give the same version.
        rules: every rule, also those that are off.
        windows: every count over a window that the rules ask a history for.
        quota: strong actions a day over all rules, if the policy limits them.
    """

    version: str
    rules: tuple[Rule, ...]
    windows: tuple[Window, ...]
    quota: int | None

    def evaluate(self, subject: Subject, history: History = NO_HISTORY) -> Verdict:
        """The verdict on one post; a rule that fails is in `Verdict.failed`, and never raises."""
        raise NotImplementedError

    def with_modes(self, modes: Mapping[str, Mode]) -> Policy:
        """The same policy with some rules in other modes, as a circuit breaker needs it."""
        raise NotImplementedError
