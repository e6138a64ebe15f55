"""The one catalogue of topics: name, key, record, retention. Code, CLI, docs and tests read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from stream.outcomes import (
    AggregateChange,
    Alert,
    AlertState,
    AuditEvent,
    Baseline,
    Decision,
    Delivery,
    Metric,
    Quota,
    Review,
    WorkerBeat,
)
from stream.records import DeadLetter, Label, Post

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the product.

    `partitioned` topics all have the partition count of the settings, because a label goes to
    the partition number its post came from. `retention_s` is None where records never expire.
    """

    name: str
    key: str
    record: type[msgspec.Struct]
    description: str
    retention_s: int | None
    cleanup: Literal["delete", "compact"] = "delete"
    partitioned: bool = True

    def full_name(self, prefix: str) -> str:
        """The topic's name on the broker."""
        return f"{prefix}{self.name}"

    def config(self) -> dict[str, str]:
        """The topic's settings in Kafka's own words."""
        retention_ms = -1 if self.retention_s is None else self.retention_s * 1000
        return {"cleanup.policy": self.cleanup, "retention.ms": str(retention_ms)}


POSTS = Topic("posts", "author, or id", Post, "posts to be labelled", 7 * _DAY_S)
LABELS = Topic("labels", "as the post", Label, "every model's scores for a post", 7 * _DAY_S)
DEAD_LETTERS = Topic(
    "dead-letters",
    "as the input",
    DeadLetter,
    "records that could not be posts, with the original bytes and the reason",
    30 * _DAY_S,
)

DECISIONS = Topic(
    "decisions",
    "as the post",
    Decision,
    "what is to become of a post, the rules that matched, live and shadow",
    7 * _DAY_S,
)
REVIEWS = Topic("reviews", "as the post", Review, "what people judged, and took back", None)
METRICS = Topic(
    "metrics",
    "window, group and partition",
    Metric,
    "counts of windows of 10 s, 1 min and 1 h, so that nobody has to count posts",
    7 * _DAY_S,
    partitioned=False,
)
AGGREGATES = Topic(
    "aggregates",
    "window and group, or number of a segment",
    AggregateChange,
    "changelog of the table behind `metrics`: workers recover from it",
    None,
    cleanup="compact",
)
ALERTS = Topic(
    "alerts",
    "the alert's id",
    Alert,
    "episodes: firing, then resolved, under one id",
    90 * _DAY_S,
    partitioned=False,
)
ALERT_STATE = Topic(
    "alert-state",
    "none",
    AlertState,
    "what the alert role has seen and which episodes are open, every few seconds",
    _DAY_S,
    partitioned=False,
)
BASELINES = Topic(
    "baselines",
    "the rule",
    Baseline,
    "what each hour taught the alert rules about change",
    35 * _DAY_S,
    partitioned=False,
)
DELIVERIES = Topic(
    "deliveries",
    "the target",
    Delivery,
    "every attempt to hand a decision or an alert to a hook's target",
    7 * _DAY_S,
    partitioned=False,
)
QUOTAS = Topic(
    "quotas",
    "the partition",
    Quota,
    "how much of the day's quotas for strong actions is used, by partition of the labels",
    7 * _DAY_S,
)
AUDIT = Topic(
    "audit",
    "the event's id",
    AuditEvent,
    "what people did besides reviews: rules changed, alerts muted, sign-ins",
    None,
    partitioned=False,
)
WORKERS = Topic(
    "workers",
    "the process",
    WorkerBeat,
    "what each process of a worker says of itself: role, rate, how its models run",
    _DAY_S,
    partitioned=False,
)

CATALOGUE: tuple[Topic, ...] = (
    POSTS,
    LABELS,
    DEAD_LETTERS,
    DECISIONS,
    REVIEWS,
    METRICS,
    AGGREGATES,
    ALERTS,
    ALERT_STATE,
    BASELINES,
    DELIVERIES,
    QUOTAS,
    AUDIT,
    WORKERS,
)
