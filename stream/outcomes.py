"""The records that come after a label: decisions, reviews, metrics, alerts, deliveries, audit.

As in `stream.records`: versioned, decoded strictly, ids deterministic, so that a record written
twice after a crash is one to every reader that upserts by id.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from stream.records import Origin, Post

DECISION_SCHEMA: Final = "tidegate.decision.v1"
REVIEW_SCHEMA: Final = "tidegate.review.v1"
METRIC_SCHEMA: Final = "tidegate.metric.v1"
ALERT_SCHEMA: Final = "tidegate.alert.v1"
DELIVERY_SCHEMA: Final = "tidegate.delivery.v1"
AGGREGATE_SCHEMA: Final = "tidegate.aggregate.v1"
AUDIT_SCHEMA: Final = "tidegate.audit.v1"
ALERT_STATE_SCHEMA: Final = "tidegate.alert-state.v1"
BASELINE_SCHEMA: Final = "tidegate.baseline.v1"
QUOTA_SCHEMA: Final = "tidegate.quota.v1"
WORKER_SCHEMA: Final = "tidegate.worker.v1"


class Action(StrEnum):
    """What becomes of a post, from nothing to the strictest. Part of the wire format."""

    ALLOW = "allow"
    FLAG = "flag"
    REVIEW = "review"
    LIMIT = "limit"
    HIDE = "hide"
    REMOVE = "remove"

    @property
    def strictness(self) -> int:
        """0 for `allow` to 5 for `remove`."""
        return _STRICTNESS[self]


_STRICTNESS: Final = {action: rank for rank, action in enumerate(Action)}
#: What quotas and circuit breakers count: actions that take a post from its readers.
STRONG_ACTIONS: Final = frozenset({Action.LIMIT, Action.HIDE, Action.REMOVE})

Severity = Literal["info", "low", "medium", "high", "critical"]
Mode = Literal["live", "shadow"]


class TextSpan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A stretch of the post's text: Python (code point) offsets and UTF-16 ones, ends exclusive.

    Browsers and most APIs count in UTF-16; `what` says why it is marked (a list, a pattern).
    """

    start: int
    end: int
    utf16_start: int
    utf16_end: int
    what: str | None = None


class RuleMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A rule that matched, live or shadow; `score` is the highest score its condition read."""

    id: str
    version: str
    mode: Mode
    action: Action
    severity: Severity
    reason: str
    score: float | None = None
    spans: list[TextSpan] = msgspec.field(default_factory=list)


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is to become of a post, and why.

    `action` is the strictest of the live rules that matched, or a person's (`by` is `review`).
    `decision_id` depends on the label (or the review) it answers and on nothing else. `policy` is
    the version in force. `failed_rules` could not be evaluated and were skipped; `safelist` names
    the list that exempted the post; `quota` the breaker that turned a live match into a shadow.
    `labels` is what each task says of the post, `unsupported` the tasks that do not know its
    language. `retracted`: the post is deleted, and nothing is to become of it any more.
    """

    schema: Literal["tidegate.decision.v1"]
    decision_id: str
    post_id: str
    action: Action
    decided_at: str
    severity: Severity = "info"
    reason: str | None = None
    policy: str | None = None
    by: Literal["policy", "review"] = "policy"
    review_id: str | None = None
    reviewer: str | None = None
    rules: list[RuleMatch] = msgspec.field(default_factory=list)
    failed_rules: list[str] = msgspec.field(default_factory=list)
    safelist: str | None = None
    quota: str | None = None
    label_id: str | None = None
    posted_at: str | None = None
    language: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    unsupported: list[str] = msgspec.field(default_factory=list)
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    origin: Origin | None = None
    #: Where in its partition of `labels` the label lies; the policy's own decisions have it.
    label_offset: int | None = None
    post: Post | None = None
    retracted: bool = False


class Review(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A person's judgement of a post.

    `verdict`: `decide` sets `action`; `skip` and `escalate` leave the decision as it is; `undo`
    takes the review `undoes` back. `labels` are the person's corrections by task (`toxicity`:
    the labels that apply, `sentiment`: one), for training. `reviewer` is a pseudonym.
    """

    schema: Literal["tidegate.review.v1"]
    review_id: str
    post_id: str
    reviewer: str
    at: str
    verdict: Literal["decide", "skip", "escalate", "undo"] = "decide"
    action: Action | None = None
    reason: str | None = None
    note: str | None = None
    undoes: str | None = None
    decision_id: str | None = None
    labels: dict[str, list[str]] = msgspec.field(default_factory=dict)
    taken_s: float | None = None


class Metric(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Counts of one window and group, as far as one partition of one topic goes.

    Of `labels` come the posts and what the models say of them, of `decisions` the `actions` (and
    the groups by action). Readers keep the highest `revision` of each (`start`, `width_s`, `by`,
    `group`, `partition`, `of`) and add these up (`stream.aggregates.merge` does); `authors` (HLL)
    and `tags`, `domains`, `terms` (frequent items) are serialised Apache DataSketches, and merge.
    `start` is in seconds since the epoch. `retracted` contributions were taken back from the
    counts; sketches cannot forget them.
    """

    schema: Literal["tidegate.metric.v1"]
    start: int
    width_s: int
    by: Literal["all", "source", "language", "label", "action", "tag"]
    group: str
    partition: int
    revision: int
    posts: int
    of: Literal["labels", "decisions"] = "labels"
    positive: int = 0
    neutral: int = 0
    negative: int = 0
    toxic: int = 0
    unsupported: int = 0
    retracted: int = 0
    actions: dict[str, int] = msgspec.field(default_factory=dict)
    authors: bytes | None = None
    tags: bytes | None = None
    domains: bytes | None = None
    terms: bytes | None = None


class AggregateChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change of the table behind `metrics`: a window as far as one partition goes, or posts.

    For the workers that count, nobody else: `body` is theirs (`stream.aggregates`), and another
    version of it is another `schema`.
    """

    schema: Literal["tidegate.aggregate.v1"]
    body: bytes


class AlertExample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A post that shows what an alert is about."""

    post_id: str
    text: str | None = None
    author: str | None = None
    score: float | None = None
    url: str | None = None


#: How the rules of the quotas' alerts begin, which the role `decide` fires and resolves.
QUOTA_PREFIX: Final = "quota:"


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One episode of an alert rule: the same `alert_id` when it fires and when it resolves.

    `observed` against `expected` (and `threshold`, where the rule states one) in `unit`. `at` is
    the tick of the metrics' clock that decided it; `test`: sent by hand, nothing happened.
    """

    schema: Literal["tidegate.alert.v1"]
    alert_id: str
    rule: str
    kind: Literal["threshold", "change", "silence", "pipeline", "new-term"]
    state: Literal["firing", "resolved"]
    severity: Severity
    summary: str
    started_at: str
    at: str
    resolved_at: str | None = None
    group: dict[str, str] = msgspec.field(default_factory=dict)
    observed: float | None = None
    expected: float | None = None
    threshold: float | None = None
    unit: str | None = None
    window_s: int | None = None
    posts: int | None = None
    authors: int | None = None
    terms: list[str] = msgspec.field(default_factory=list)
    examples: list[AlertExample] = msgspec.field(default_factory=list)
    test: bool = False


class AlertState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the alert role knows at a place of `metrics`: the newest whole one counts.

    `state` is one of `pieces` pieces, alike in `next_offset` and `at`; whoever takes over reads
    metrics from `rewind_offset` on, for the windows that rules still look at.
    """

    schema: Literal["tidegate.alert-state.v1"]
    at: str
    next_offset: int
    rewind_offset: int
    state: bytes
    piece: int = 0
    pieces: int = 1


class Baseline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an hour taught a change rule: mean count of each series; `hour` since the epoch.

    `of` is what the rule asked then: it is of no use to a rule that asks something else.
    """

    schema: Literal["tidegate.baseline.v1"]
    rule: str
    of: str
    hour: int
    means: dict[str, float]


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One attempt to hand a decision or an alert to a target; the delivery log."""

    schema: Literal["tidegate.delivery.v1"]
    delivery_id: str
    target: str
    kind: Literal["decision", "alert", "test"]
    record_id: str
    state: Literal["delivered", "retrying", "failed", "dropped"]
    attempt: int
    at: str
    post_id: str | None = None
    status: int | None = None
    error: str | None = None
    elapsed_ms: int | None = None
    next_at: str | None = None
    #: How far the schedule of attempts is: what was put off, and a time without a worker, is no step.
    step: int | None = None
    #: The record itself, where it was given up: `tidegate hooks replay` sends it again.
    original: bytes | None = None


class Quota(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How much of a day's quotas one partition of `labels` has used; the newest one counts.

    `used` counts, by rule, posts on which a strong action of the rule fell, as far as the labels
    before `next_offset`; the key "" counts those of all rules. `tripped` says since when a rule
    (or "", all of them) is in shadow for the rest of the day, and `limits` by which quota.
    """

    schema: Literal["tidegate.quota.v1"]
    partition: int
    day: str
    next_offset: int
    at: str
    used: dict[str, int] = msgspec.field(default_factory=dict)
    tripped: dict[str, str] = msgspec.field(default_factory=dict)
    limits: dict[str, int] = msgspec.field(default_factory=dict)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something a person did that is no review: a rule changed, an alert muted, a sign-in."""

    schema: Literal["tidegate.audit.v1"]
    event_id: str
    at: str
    who: str
    what: str
    on: str
    detail: dict[str, Any] = msgspec.field(default_factory=dict)


class ModelInUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How a model runs in a worker: `provider` is onnxruntime's, `fused` counts the graph's operators."""

    id: str
    version: str
    device: str
    provider: str
    warm_up_s: float
    precision: str | None = None
    sessions: int = 1
    threads: int = 0
    fused: dict[str, int] = msgspec.field(default_factory=dict)
    remark: str | None = None


class WorkerBeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one process of a worker says of itself, every few seconds while it lives.

    `role` is as in logs (`decide`, `hooks/slack`); `records` were done since `started_at`,
    `records_per_s` since the beat before; `version` is Tidegate's.
    """

    schema: Literal["tidegate.worker.v1"]
    worker_id: str
    role: str
    host: str
    pid: int
    version: str
    started_at: str
    at: str
    records: int = 0
    records_per_s: float = 0.0
    partitions: list[str] = msgspec.field(default_factory=list)
    models: list[ModelInUse] = msgspec.field(default_factory=list)


decode_decision: Final = msgspec.json.Decoder(Decision).decode
decode_review: Final = msgspec.json.Decoder(Review).decode
decode_metric: Final = msgspec.json.Decoder(Metric).decode
decode_aggregate_change: Final = msgspec.json.Decoder(AggregateChange).decode
decode_alert: Final = msgspec.json.Decoder(Alert).decode
decode_alert_state: Final = msgspec.json.Decoder(AlertState).decode
decode_baseline: Final = msgspec.json.Decoder(Baseline).decode
decode_delivery: Final = msgspec.json.Decoder(Delivery).decode
decode_audit_event: Final = msgspec.json.Decoder(AuditEvent).decode
decode_quota: Final = msgspec.json.Decoder(Quota).decode
decode_worker_beat: Final = msgspec.json.Decoder(WorkerBeat).decode
