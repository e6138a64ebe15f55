"""A read model with what Review, Rules, Alerts and Audit show, made by the real policy.

The texts are made up here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from dashboard.store import Store
from stream.outcomes import (
    ALERT_SCHEMA,
    Action,
    Alert,
    AlertExample,
    Decision,
)
from stream.policy import Policy, Subject, decision_of, load_policy
from stream.records import rfc3339
from stream.topics import ALERTS, AUDIT, DECISIONS, METRICS, REVIEWS, Topic
from tests.dashboard.conftest import batch_of
from tests.dashboard.label_feed import Made, label_of, stream_of
from tests.dashboard.outcome_feed import after, batch_of_outcomes, event, review_on
from tests.stream.alerts.streams import metric

#: (text, toxicity label, score): what the starter pack sends to review, and more.
QUEUED: tuple[tuple[str, str, float], ...] = (
    ("We know where you park. Better watch your back tonight, clown.", "threat", 0.31),
    ("Take your kind and go back to wherever you crawled out of.", "identity_attack", 0.62),
    ("I will find you and break your ?ose, you pathetic muppet", "threat", 0.22),
    (
        "Nobody in that family deserves to live here, all of them are vermin",
        "identity_attack",
        0.55,
    ),
    ("call him and tell him what you think: +44 20 7946 0018", "insult", 0.2),
    ("hope you choke on it, loser", "insult", 0.48),
)


def queued_labels(
    now_ms: int, texts: Sequence[tuple[str, str, float]] = QUEUED, *, first: int = 900_000
) -> list[Made]:
    """Labels that the starter pack sends to review."""
    made = []
    for n, (text, toxicity, score) in enumerate(texts):
        at_ms = now_ms - 60_000 * (len(texts) - n)
        label = label_of(
            first + n,
            posted_ms=at_ms,
            rng=random.Random(n),
            abusive=True,
            text=text,
            author=f"writer{n % 3}",
        )
        labels = dict(label.label.labels)
        scores = {**labels["toxicity"].scores, "toxic": 0.7, toxicity: score}
        labels["toxicity"] = msgspec.structs.replace(
            labels["toxicity"], label=toxicity, score=max(scores.values()), scores=scores
        )
        labels["language"] = msgspec.structs.replace(labels["language"], label="en")
        labels["sentiment"] = msgspec.structs.replace(labels["sentiment"], label="negative")
        made.append(Made(label.partition, msgspec.structs.replace(label.label, labels=labels)))
    return made


def decisions_on(made: Iterable[Made], policy: Policy) -> list[Decision]:
    """What the policy says of each."""
    found = []
    for each in made:
        verdict = policy.evaluate(Subject.of_label(each.label))
        at_ms = each.label.origin.timestamp_ms + 300 if each.label.origin else 0
        found.append(decision_of(each.label, verdict, policy.version, decided_at_ms=at_ms))
    return found


def alerts_at(now_ms: int) -> list[Alert]:
    """One that fires, one that is over."""
    nasty = "**bold** ![x](http://127.0.0.1:9/x.png) <script>alert(1)</script>"
    return [
        Alert(
            schema=ALERT_SCHEMA,
            alert_id="toxicity-1",
            rule="toxic-wave",
            kind="threshold",
            state="firing",
            severity="high",
            summary="toxicity rate 31 %, over 20 % (212 posts by 140 authors in 5 min)",
            started_at=rfc3339(now_ms - 600_000),
            at=rfc3339(now_ms - 10_000),
            observed=0.31,
            threshold=0.2,
            unit="share",
            window_s=300,
            posts=212,
            authors=140,
            examples=[
                AlertExample(post_id="e1", text=nasty, author="w", score=0.93),
                AlertExample(post_id="e2", text="You absolute turnip.", author="v", score=0.88),
            ],
        ),
        Alert(
            schema=ALERT_SCHEMA,
            alert_id="surge-1",
            rule="volume-by-tag",
            kind="change",
            state="resolved",
            severity="medium",
            summary=f"back to what is usual in tag {nasty} after 9 min",
            started_at=rfc3339(now_ms - 3_600_000),
            at=rfc3339(now_ms - 3_000_000),
            resolved_at=rfc3339(now_ms - 3_060_000),
            group={"tag": "launch"},
            observed=84,
            expected=21,
            unit="authors",
            window_s=300,
            posts=130,
            authors=84,
        ),
    ]


def furnish(path: Path, *, posts: int = 800, queued: Sequence[Made] | None = None) -> Policy:
    """A read model at `path` with everything; the policy that decided."""
    now_ms = time.time_ns() // 1_000_000
    policy = load_policy()
    span_s = 5 * 3600
    stream = list(
        stream_of(
            posts,
            start_ms=now_ms - span_s * 1000,
            posts_per_s=posts / span_s,
            wave=(span_s * 0.9, span_s * 0.95),
        )
    )
    waiting = list(queued_labels(now_ms) if queued is None else queued)
    decisions = decisions_on([*stream, *waiting], policy)
    records: list[tuple[Topic, msgspec.Struct]] = [(DECISIONS, each) for each in decisions]
    flagged = [each for each in decisions[: len(stream)] if each.rules][:60]
    for n, decision in enumerate(flagged):
        action = Action.ALLOW if n % 5 == 0 else Action.FLAG
        review = review_on(decision, "kestrel" if n % 2 else "heron", action, now_ms - 60_000 * n)
        records += [(REVIEWS, review), (DECISIONS, after(review, decision))]
    records += [(ALERTS, each) for each in alerts_at(now_ms)]
    records += [
        (METRICS, each)
        for start in range((now_ms // 1000 - 7200) // 60 * 60, now_ms // 1000, 60)
        for each in _minute(start, now_ms // 1000)
    ]
    change = {
        "field": "when",
        "before": "toxicity.insult >= 0.4",
        "after": "toxicity.insult >= 0.43",
    }
    records += [
        (
            AUDIT,
            event(
                "rule.save", "insult", now_ms - 7_000_000, change="rule changed", fields=[change]
            ),
        ),
        (AUDIT, event("alert.acknowledge", "surge-1", now_ms - 3_300_000)),
        (AUDIT, event("alert.mute", "new-tag", now_ms - 60_000, until_ms=now_ms + 3_000_000)),
    ]
    with Store(path) as store:
        store.apply(batch_of([*stream, *waiting]))
        store.apply(batch_of_outcomes(records))
        detail = {"kafka": "127.0.0.1:9092", "records_per_s": 12.0, "behind": 0}
        store.beat("projector", "reading", now_ms, detail)
    return policy


def _minute(start: int, now_s: int) -> list[msgspec.Struct]:
    wave = now_s - 700 <= start < now_s - 60
    posts = 40 + start // 60 % 7
    toxic = posts // 3 if wave else 2 + start // 60 % 3
    launch = 20 + start // 60 % 5 if now_s - 3600 <= start < now_s - 3060 else 4 + start // 60 % 3
    return [
        metric(start, posts, width_s=60, toxic=toxic, authors=posts),
        metric(start, launch, "launch", width_s=60, authors=launch),
    ]
