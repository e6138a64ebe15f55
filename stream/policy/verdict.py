"""What a policy says of a post, and the decision record that comes of it.

Invariant: a decision depends on the label, the verdict and the time given; its id on the label's
id alone, so that a label decided twice gives one decision to every reader that upserts.
"""

from __future__ import annotations

from dataclasses import dataclass

from stream.outcomes import DECISION_SCHEMA, Action, Decision, RuleMatch, Severity
from stream.records import Label, rfc3339


@dataclass(frozen=True, slots=True)
class FailedRule:
    """A rule that could not be evaluated for this post, and why."""

    id: str
    version: str
    error: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The strictest live action, and every rule that matched.

    `decisive` is the id of the live rule that gave action, severity and reason; None where no
    live rule matched. A safelisted post is allowed, and its matches are all shadow.
    """

    action: Action = Action.ALLOW
    severity: Severity = "info"
    reason: str | None = None
    decisive: str | None = None
    matches: tuple[RuleMatch, ...] = ()
    failed: tuple[FailedRule, ...] = ()
    safelist: str | None = None

    @property
    def live(self) -> tuple[RuleMatch, ...]:
        """The matches that count."""
        return tuple(match for match in self.matches if match.mode == "live")

    @property
    def shadow(self) -> tuple[RuleMatch, ...]:
        """The matches that are only shown."""
        return tuple(match for match in self.matches if match.mode == "shadow")


def decision_id(label_id: str) -> str:
    """The id of the policy's decision on a label."""
    return f"policy:{label_id}"


def decision_of(
    label: Label,
    verdict: Verdict,
    policy_version: str,
    *,
    decided_at_ms: int,
    quota: str | None = None,
) -> Decision:
    """The decision record on one label; that of a retracted label takes the decision back.

    Args:
        label: what was judged.
        verdict: what the policy says of it; of no effect for a retracted label.
        policy_version: `Policy.version`.
        decided_at_ms: now.
        quota: the breaker that turned a live match into a shadow, if one did.
    """
    if label.retracted:
        verdict, quota = Verdict(), None
    language = label.labels.get("language")
    return Decision(
        schema=DECISION_SCHEMA,
        decision_id=decision_id(label.label_id),
        post_id=label.post_id,
        action=verdict.action,
        decided_at=rfc3339(decided_at_ms),
        severity=verdict.severity,
        reason=verdict.reason,
        policy=policy_version,
        rules=list(verdict.matches),
        failed_rules=[rule.id for rule in verdict.failed],
        safelist=verdict.safelist,
        quota=quota,
        label_id=label.label_id,
        posted_at=label.posted_at,
        language=language.label if language else None,
        labels={task: answer.label for task, answer in label.labels.items()},
        unsupported=[task for task, answer in label.labels.items() if answer.unsupported],
        scores=_scores(label),
        origin=label.origin,
        post=label.post,
        retracted=label.retracted,
    )


def _scores(label: Label) -> dict[str, float]:
    """Every score as `task.label`; of tasks with very many labels those that the label carries."""
    return {
        f"{task}.{name}": score
        for task, answer in label.labels.items()
        for name, score in (answer.scores or {answer.label: answer.score}).items()
    }
