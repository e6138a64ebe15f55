"""Two days of posts with what the roles make of them: metrics, decisions, reviews, alerts, topics."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from dashboard.projection import Place, dead_letter_row
from dashboard.store import Batch, PartitionBacklog, Store
from stream.aggregates.book import Book
from stream.database_url import ReadModelAt
from stream.outcomes import ALERT_SCHEMA, DELIVERY_SCHEMA, Action, Alert, Delivery
from stream.records import DEAD_LETTER_SCHEMA, DeadLetter, Origin, encode, rfc3339
from stream.topics import ALERTS, AUDIT, DECISIONS, DELIVERIES, METRICS, REVIEWS, Topic
from tests.dashboard.conftest import batch_of
from tests.dashboard.label_feed import Made, stream_of
from tests.dashboard.outcome_feed import after, batch_of_outcomes, decision_on, event, review_on

NASTY = "![x](http://127.0.0.1:9/x.png) <script>alert(1)</script> :red[boo]"
_HOUR_MS = 3_600_000


def two_days(now_ms: int, posts: int = 400) -> list[Made]:
    """A calm day, then a busier one with a wave of abuse in it."""
    calm = stream_of(
        posts // 2, start_ms=now_ms - 46 * _HOUR_MS, posts_per_s=posts / 2 / (22 * 3600)
    )
    busy = stream_of(
        posts,
        start_ms=now_ms - 23 * _HOUR_MS,
        posts_per_s=posts / (22.9 * 3600),
        first=10_000,
        wave=(8 * 3600, 10 * 3600),
    )
    return [*calm, *busy]


def keep_history(path: ReadModelAt, made: Sequence[Made] | None = None) -> list[Made]:
    """A read model at `path` that holds all of it; the posts."""
    now_ms = time.time_ns() // 1_000_000
    made = two_days(now_ms) if made is None else list(made)
    records: list[tuple[Topic, msgspec.Struct]] = []
    for n, each in enumerate(made):
        abusive = each.label.labels["toxicity"].label != "none"
        rules = [("insults", "1", "live"), ("insults-strict", "2", "shadow")] if abusive else []
        decision = decision_on(each.label, Action.REVIEW if abusive else Action.ALLOW, rules=rules)
        records.append((DECISIONS, decision))
        if abusive and n % 2 == 0:
            action = Action.ALLOW if n % 4 == 0 else Action.HIDE
            review = review_on(decision, "kestrel", action, now_ms - 1000)
            records += [(REVIEWS, review), (DECISIONS, after(review, decision))]
    records += [(METRICS, metric) for metric in _metrics(made)]
    records += [(ALERTS, _alert(n, now_ms - hours * _HOUR_MS)) for n, hours in enumerate((3, 12))]
    records += [
        (AUDIT, event("brand.save", "Trams", now_ms - 9000, query="tram OR bus")),
        (AUDIT, event("brand.save", "Library", now_ms - 8000, query="library")),
    ]
    records += [(DELIVERIES, _delivery(n, now_ms)) for n in range(6)]
    letters = [dead_letter_row(encode(_letter(n, now_ms)), Place(0, n, now_ms)) for n in range(3)]
    with Store(path) as store:
        store.apply(batch_of(made))
        store.apply(batch_of_outcomes(records))
        store.apply(Batch(dead_letters=letters))
        store.sample_backlog([PartitionBacklog(0, 120, 100, 20)], now_ms)
        detail = {"kafka": "127.0.0.1:9092", "records_per_s": 12.0, "behind": 0}
        # Now, not when this began: a page calls what is ten seconds old frozen.
        beat_ms = time.time_ns() // 1_000_000
        store.beat("projector", "reading", beat_ms, detail)
        store.beat("broker", "ready", beat_ms, detail | {"brokers": ["b:1"]})
    return made


def _metrics(made: Sequence[Made]) -> list[msgspec.Struct]:
    """As the role that counts would write them, the newest revision of each window."""
    book = Book("labels", 0)
    newest: dict[tuple[int, int, str, str], msgspec.Struct] = {}
    for start in range(0, len(made), 50):
        book.add([(start + n, each.value) for n, each in enumerate(made[start : start + 50])])
        for metric in book.checkpoint().metrics:
            newest[metric.start, metric.width_s, metric.by, metric.group] = metric
    return list(newest.values())


def _alert(n: int, at_ms: int) -> Alert:
    return Alert(
        schema=ALERT_SCHEMA,
        alert_id=f"rate-{n}",
        rule="abuse-rate",
        kind="change",
        state="resolved",
        severity="high",
        summary=f"abuse is three times what is usual {NASTY}",
        started_at=rfc3339(at_ms),
        at=rfc3339(at_ms + 60_000),
        resolved_at=rfc3339(at_ms + 600_000),
    )


def _delivery(n: int, now_ms: int) -> Delivery:
    delivered = n % 2 == 0
    return Delivery(
        schema=DELIVERY_SCHEMA,
        delivery_id=f"delivery-{n}",
        target="pager",
        kind="decision",
        record_id=f"decision-{n}",
        post_id=NASTY,
        state="delivered" if delivered else "retrying",
        attempt=1,
        at=rfc3339(now_ms - n * 1000),
        status=200 if delivered else 503,
        error=None if delivered else f"answered 503 {NASTY}",
        elapsed_ms=12 + n,
    )


def _letter(n: int, now_ms: int) -> DeadLetter:
    return DeadLetter(
        schema=DEAD_LETTER_SCHEMA,
        dead_letter_id=f"posts/0/{n}",
        reason="not-json",
        error="not JSON: " + NASTY,
        original=NASTY.encode(),
        original_bytes=len(NASTY),
        at=rfc3339(now_ms),
        origin=Origin(topic="posts", partition=0, offset=n, timestamp_ms=now_ms),
    )
