from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.queries import alerts, decisions, queue, rules, scores, trends
from dashboard.reader import open_reader
from dashboard.store import Store
from stream.database_url import ReadModelAt
from stream.decisions.precision import precision_of
from stream.outcomes import (
    ALERT_SCHEMA,
    DELIVERY_SCHEMA,
    METRIC_SCHEMA,
    Action,
    Alert,
    AlertExample,
    Delivery,
    Metric,
)
from stream.records import rfc3339
from stream.topics import ALERTS, AUDIT, DECISIONS, DELIVERIES, METRICS, REVIEWS, Topic
from tests.dashboard.conftest import NewPlace, asking, batch_of
from tests.dashboard.label_feed import label_of, stream_of
from tests.dashboard.outcome_feed import (
    after,
    batch_of_outcomes,
    decision_on,
    event,
    review_on,
)

START_MS = 1_795_000_000_000
Record = tuple[Topic, msgspec.Struct]
_TABLES = (
    (
        "SELECT post_id, place_ms, by_person, decided_ms, decision_id, basis_id, action,"
        " policy_action, severity, judged, reviewer, rules, retracted FROM decisions ORDER BY post_id"
    ),
    "SELECT * FROM rule_rollups ORDER BY 1, 2, 3, 4",
    "SELECT * FROM action_rollups ORDER BY 1, 2, 3, 4",
    "SELECT * FROM reviews ORDER BY 1",
    "SELECT * FROM queue ORDER BY 1",
)


def contents(at: ReadModelAt) -> list[Any]:
    with asking(at) as ask:
        return [ask(sql) for sql in _TABLES]


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """Decisions on a few posts, edited and deleted, reviewed, undone, escalated."""
    records: list[Record] = []
    rng = random.Random(draw(st.integers(0, 100)))
    for n in range(draw(st.integers(1, 8))):
        post_id = f"p{draw(st.integers(0, 3))}"
        label = label_of(
            n,
            posted_ms=START_MS + n * 1000,
            rng=rng,
            partitions=1,
            post_id=post_id,
            retracted=draw(st.integers(0, 6)) == 0,
        ).label
        action = draw(st.sampled_from([Action.ALLOW, Action.REVIEW, Action.HIDE]))
        matched = [("rude", "1", "live"), ("new", "2", "shadow")] if action != "allow" else []
        decision = decision_on(label, action, rules=matched)
        records.append((DECISIONS, decision))
        for k in range(draw(st.integers(0, 3))):
            at_ms = START_MS + n * 1000 + 200 + k
            verdict = draw(st.sampled_from(["decide", "decide", "skip", "escalate"]))
            person = draw(st.sampled_from(["kestrel", "heron"]))
            said = draw(st.sampled_from([Action.ALLOW, Action.HIDE]))
            review = review_on(
                decision, person, said if verdict == "decide" else None, at_ms, verdict=verdict
            )
            records.append((REVIEWS, review))
            if verdict == "decide":
                records.append((DECISIONS, after(review, decision)))
            if draw(st.booleans()):
                undo = review_on(
                    decision, person, None, at_ms + 50, verdict="undo", undoes=review.review_id
                )
                records.append((REVIEWS, undo))
                if verdict == "decide":
                    records.append((DECISIONS, after(undo, decision)))
    return records


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=histories(), data=st.data())
def test_any_order_and_duplication_gives_the_same_outcomes(
    records: list[Record], data: st.DataObject, new_file: NewPlace
) -> None:
    any_order_gives_the_same(records, data, new_file)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=histories(), data=st.data())
def test_any_order_gives_the_same_outcomes_in_postgres(
    records: list[Record], data: st.DataObject, new_schema: NewPlace
) -> None:
    any_order_gives_the_same(records, data, new_schema)


def any_order_gives_the_same(
    records: list[Record], data: st.DataObject, new_place: NewPlace
) -> None:
    once = new_place()
    with Store(once) as store:
        store.apply(batch_of_outcomes(records))
    twice = [*records, *data.draw(st.lists(st.sampled_from(records), max_size=10))]
    shuffled = data.draw(st.permutations(twice))
    other = new_place()
    offsets: dict[str, int] = {}
    with Store(other) as store:
        while shuffled:
            size = data.draw(st.integers(1, 6))
            store.apply(batch_of_outcomes(shuffled[:size], offsets))
            shuffled = shuffled[size:]
    assert contents(other) == contents(once)
    held = contents(once)
    assert held[1] == recount(held[0])


def recount(rows: list[Any]) -> list[Any]:
    """The rollup of rules, counted from the decisions in force."""
    found: Counter[Any] = Counter()
    for row in rows:
        if row[12]:
            continue
        for rule, version, mode in msgspec.json.decode(row[11]) if row[11] else []:
            key = (START_MS // 3_600_000 * 3600, rule, version, mode)
            found[key, "n"] += 1
            found[key, "judged"] += row[9]
            found[key, "upheld"] += row[9] and row[6] != "allow"
    keys = sorted({key for key, _ in found})
    return [(*key, found[key, "n"], found[key, "judged"], found[key, "upheld"]) for key in keys]


def test_a_decision_its_rules_and_what_people_said(place: ReadModelAt) -> None:
    made = label_of(0, posted_ms=START_MS, rng=random.Random(1), post_id="p", author="ann")
    decision = decision_on(made.label, Action.REVIEW, rules=[("rude", "3", "live")])
    review = review_on(decision, "heron", Action.HIDE, START_MS + 5000)
    with Store(place) as store:
        store.apply(batch_of([made]))
        store.apply(batch_of_outcomes([(DECISIONS, decision)]))
        with open_reader(place) as reader:
            assert reader is not None
            found = decisions.decision_of(reader.db, "p")
            assert found is not None
            assert (found.action, found.judged, found.severity) == ("review", False, "medium")
            assert [rule.id for rule in found.why.rules] == ["rude"]
            assert found.why.rules[0].score == 0.9
            assert [w.post_id for w in queue.waiting(reader.db)] == ["p"]
        offsets = {"decisions": 1}
        store.apply(
            batch_of_outcomes([(REVIEWS, review), (DECISIONS, after(review, decision))], offsets)
        )
    with open_reader(place) as reader:
        assert reader is not None
        found = decisions.decision_of(reader.db, "p")
        assert found is not None
        assert (found.action, found.policy_action, found.judged) == ("hide", "review", True)
        assert found.reviewer == "heron"
        assert found.basis_id == decision.decision_id
        assert queue.waiting(reader.db) == []
        assert queue.queue_counts(reader.db) == []
        assert [r.action for r in decisions.reviews_of(reader.db, "p")] == ["hide"]
        (post,) = decisions.author_posts(reader.db, "ann")
        assert (post.action, post.judged) == ("hide", True)
        precision = rules.precisions(reader.db)["rude"]
        assert precision == precision_of([decision], [review])["rude"]
        (figures,) = rules.rule_figures(reader.db, START_MS // 1000, START_MS // 1000 + 10)
        assert (figures.matches, figures.version, figures.mode) == (1, "3", "live")
        assert [m[0] for m in rules.matched_posts(reader.db, "rude")] == ["p"]
        assert rules.matched_posts(reader.db, "rud") == []


def test_the_queue_is_by_severity_then_age_and_an_undo_brings_back(place: ReadModelAt) -> None:
    rng = random.Random(2)
    made = [label_of(n, posted_ms=START_MS + n, rng=rng, post_id=f"p{n}") for n in range(4)]
    severities = ["low", "critical", "low", "critical"]
    judged = [
        decision_on(m.label, Action.REVIEW, severity=severity)
        for m, severity in zip(made, severities, strict=True)
    ]
    review = review_on(judged[1], "heron", Action.ALLOW, START_MS + 9000)
    undo = review_on(
        judged[1], "heron", None, START_MS + 9500, verdict="undo", undoes=review.review_id
    )

    def order() -> list[str]:
        with open_reader(place) as reader:
            assert reader is not None
            return [w.post_id for w in queue.waiting(reader.db)]

    offsets: dict[str, int] = {}
    with Store(place) as store:
        store.apply(batch_of(made))
        store.apply(batch_of_outcomes([(DECISIONS, d) for d in judged], offsets))
        assert order() == ["p1", "p3", "p0", "p2"]
        store.apply(batch_of_outcomes([(REVIEWS, review)], offsets))
        assert order() == ["p3", "p0", "p2"]
        store.apply(batch_of_outcomes([(REVIEWS, undo)], offsets))
        assert order() == ["p1", "p3", "p0", "p2"]
        passed = review_on(judged[1], "heron", None, START_MS + 9600, verdict="escalate")
        store.apply(batch_of_outcomes([(REVIEWS, passed)], offsets))
        with open_reader(place) as reader:
            assert reader is not None
            assert [w.escalated for w in queue.waiting(reader.db)] == [True, False, False, False]
            mine = queue.waiting(reader.db, not_passed_by="heron")
            assert [w.post_id for w in mine] == ["p3", "p0", "p2"]
            assert queue.passed_count(reader.db, "heron") == 1
            only = queue.waiting(reader.db, escalated=True)
            assert [w.post_id for w in only] == ["p1"]


def test_what_waits_for_review_outlives_retention(place: ReadModelAt) -> None:
    made = list(stream_of(1500, start_ms=START_MS, wave=None))
    waits = decision_on(made[3].label, Action.REVIEW)
    allowed = [decision_on(m.label) for n, m in enumerate(made) if n != 3]
    with Store(place, retention_posts=1000) as store:
        store.apply(batch_of(made))
        store.apply(batch_of_outcomes([(DECISIONS, d) for d in [waits, *allowed]]))
        store.tidy(START_MS)
        store.apply(batch_of_outcomes([(DECISIONS, d) for d in allowed[:9]], {"decisions": 1500}))
    with open_reader(place) as reader:
        assert reader is not None
        assert [w.post_id for w in queue.waiting(reader.db)] == [waits.post_id]
        assert reader.db.execute("SELECT count(*) FROM decisions").fetchone()[0] == 1000
        counted = trends.action_steps(
            reader.db, START_MS // 1000 - 300, START_MS // 1000 + 300, 300
        )
        assert sum(step.posts for step in counted) == 1500


def test_posts_and_decisions_leave_by_age(place: ReadModelAt) -> None:
    old = label_of(0, posted_ms=START_MS, rng=random.Random(1), post_id="old")
    new = label_of(4, posted_ms=START_MS + 3 * 86_400_000, rng=random.Random(1), post_id="new")
    with Store(place, retention_days=2) as store:
        store.apply(batch_of([old, new]))
        both = [(DECISIONS, decision_on(m.label)) for m in (old, new)]
        store.apply(batch_of_outcomes(both))
        store.tidy(START_MS + 3 * 86_400_000)
    with open_reader(place) as reader:
        assert reader is not None
        assert reader.db.execute("SELECT post_id FROM posts").fetchall() == [("new",)]
        assert reader.db.execute("SELECT post_id FROM decisions").fetchall() == [("new",)]


def alert(state: str, at_ms: int, **more: Any) -> Alert:
    return Alert(
        schema=ALERT_SCHEMA, alert_id="a1", rule="spike", kind="change", state=state,  # type: ignore[arg-type]
        severity="high", summary="insults are up", started_at=rfc3339(START_MS), at=rfc3339(at_ms),
        resolved_at=rfc3339(at_ms) if state == "resolved" else None,
        examples=[AlertExample(post_id="p", text="x")] if state == "firing" else [], **more,
    )  # fmt: skip


def test_alerts_with_what_people_did_about_them(place: ReadModelAt) -> None:
    records: list[Record] = [
        (ALERTS, alert("resolved", START_MS + 60_000)),
        (ALERTS, alert("firing", START_MS)),
        (AUDIT, event("alert.acknowledge", "a1", START_MS + 1000, who="heron")),
        (AUDIT, event("alert.acknowledge", "a1", START_MS + 2000, who="kestrel")),
        (AUDIT, event("alert.mute", "spike", START_MS + 3000, until_ms=START_MS + 600_000)),
        (AUDIT, event("alert.thumbs", "a1", START_MS + 4000, who="heron", up=True)),
        (AUDIT, event("alert.thumbs", "a1", START_MS + 5000, who="heron", up=False)),
    ]
    with Store(place) as store:
        store.apply(batch_of_outcomes(records))
        with open_reader(place) as reader:
            assert reader is not None
            (found,) = alerts.alerts(reader.db, START_MS + 10_000)
            assert not found.firing
            assert found.acknowledged_by == "heron"
            assert found.muted_until_ms == START_MS + 600_000
            assert found.thumbs == -1
            # The record of the end, which was read first, has none; the one before it has.
            assert [example.post_id for example in found.examples] == ["p"]
            assert alerts.mutes(reader.db, START_MS + 10_000) == {"spike": START_MS + 600_000}
            assert alerts.mutes(reader.db, START_MS + 700_000) == {}
            assert alerts.alerts(reader.db, START_MS, firing=True) == []
            assert alerts.alert_of(reader.db, "a1", START_MS) is not None
        unmute = event("alert.unmute", "spike", START_MS + 6000, until_ms=0)
        store.apply(batch_of_outcomes([(AUDIT, unmute)], {"audit": 5}))
        with open_reader(place) as reader:
            assert reader is not None
            assert alerts.mutes(reader.db, START_MS + 10_000) == {}


def test_deliveries_and_windows(place: ReadModelAt) -> None:
    delivery = Delivery(
        schema=DELIVERY_SCHEMA, delivery_id="slack/1#1", target="slack", kind="alert",
        record_id="a1", state="retrying", attempt=1, at=rfc3339(START_MS), status=503,
        error="busy", next_at=rfc3339(START_MS + 5000),
    )  # fmt: skip
    done = msgspec.structs.replace(
        delivery, delivery_id="slack/1#2", state="delivered", attempt=2, status=200
    )
    minute = START_MS // 60_000 * 60

    def metric(revision: int, posts: int, **more: Any) -> Metric:
        return Metric(
            schema=METRIC_SCHEMA, start=minute, width_s=60, by="tag", group="tram", partition=0,
            revision=revision, posts=posts, toxic=1, **more,
        )  # fmt: skip

    records: list[Record] = [
        (DELIVERIES, delivery), (DELIVERIES, done), (DELIVERIES, done),
        (METRICS, metric(2, 9)), (METRICS, metric(1, 4)), (METRICS, metric(3, 99, of="decisions")),
    ]  # fmt: skip
    with Store(place) as store:
        store.apply(batch_of_outcomes(records))
    with open_reader(place) as reader:
        assert reader is not None
        from dashboard.queries.deliveries import deliveries, target_figures

        assert [d.state for d in deliveries(reader.db)] == ["delivered", "retrying"]
        assert [d.status for d in deliveries(reader.db, states=("retrying",))] == [503]
        (figures,) = target_figures(reader.db, START_MS, START_MS + 1)
        assert figures[:3] == ("slack", 1, 1)
        (tag,) = trends.groups(reader.db, "tag", minute, minute + 60)
        assert (tag.name, tag.now.posts, tag.now.toxicity_rate) == ("tram", 9, 1 / 9)


def test_thresholds_from_stored_scores_and_drift(place: ReadModelAt) -> None:
    made = list(stream_of(800, start_ms=START_MS, posts_per_s=1.0, wave=(100, 400)))
    truth = [m.label.labels["toxicity"].scores["insult"] for m in made]
    judged = [m for m in made if m.label.labels["toxicity"].scores["insult"] >= 0.6][:4]
    records: list[Record] = []
    for n, m in enumerate(judged):
        decision = decision_on(m.label, Action.REVIEW)
        said = Action.ALLOW if n == 0 else Action.HIDE
        records.append((DECISIONS, after(review_on(decision, "heron", said, START_MS), decision)))
    with Store(place) as store:
        store.apply(batch_of(made))
        store.apply(batch_of_outcomes(records))
    at = (START_MS // 1000, START_MS // 1000 + 900)
    with open_reader(place) as reader:
        assert reader is not None
        assert "toxicity.insult" in scores.score_labels(reader.db)
        assert "sentiment.negative" in scores.score_labels(reader.db)
        low, high = scores.threshold_figures(reader.db, "toxicity.insult", [0.0, 0.6], *at)
        assert low.flagged == low.posts == 800
        assert high.flagged == sum(score >= 0.6 for score in truth)
        assert (high.judged, high.fine) == (4, 1)
        english = scores.histogram(reader.db, "toxicity.insult", *at, languages=["en"])
        labels = [m.label for m in made if m.label.labels["language"].label == "en"]
        assert english.posts == len(labels)
        calm = scores.histogram(reader.db, "toxicity.insult", *at, languages=["ja"])
        assert scores.drift(calm, calm).psi == pytest.approx(0)
        moved = scores.drift(english, calm).psi
        assert moved is not None
        assert moved > 0.25
        # Taken back: nothing is left of a deleted post's scores.
        gone = [
            label_of(
                10_000 + n, posted_ms=START_MS + 900_000 + n, rng=random.Random(1),
                post_id=m.label.post_id, retracted=True,
            )
            for n, m in enumerate(made)
        ]  # fmt: skip
    with Store(place) as store:
        store.apply(batch_of(gone))
    with open_reader(place) as reader:
        assert reader is not None
        assert scores.histogram(reader.db, "toxicity.insult", *at).posts == 0


def test_old_hours_of_scores_become_days_and_count_the_same(place: ReadModelAt) -> None:
    made = list(stream_of(400, start_ms=START_MS, posts_per_s=0.05))
    late = (START_MS // 1000 + 20 * 86_400) * 1000
    at = (START_MS // 1000 - 86_400, START_MS // 1000 + 86_400)
    with Store(place) as store:
        store.apply(batch_of(made))
        with open_reader(place) as reader:
            assert reader is not None
            before = scores.histogram(reader.db, "toxicity.toxic", *at)
        store.tidy(late)
    with open_reader(place) as reader:
        assert reader is not None
        assert before.posts == 400
        assert scores.histogram(reader.db, "toxicity.toxic", *at) == before
        widths = reader.db.execute("SELECT DISTINCT width_s FROM score_rollups").fetchall()
        assert widths == [(86_400,)]


def test_a_range_beside_the_period_before(place: ReadModelAt) -> None:
    start_s = START_MS // 1000 // 300 * 300
    before = list(stream_of(100, start_ms=start_s * 1000, posts_per_s=1.0))
    now = list(stream_of(250, start_ms=(start_s + 300) * 1000, posts_per_s=1.0, first=1000))
    with Store(place) as store:
        store.apply(batch_of([*before, *now]))
    with open_reader(place) as reader:
        assert reader is not None
        here, there = trends.comparison(reader.db, start_s + 300, start_s + 600)
        assert (here.posts, there.posts) == (250, 100)
        labels = [m.label.labels for m in now]
        assert here.toxic == sum(label["toxicity"].label != "none" for label in labels)
        mood = Counter(label["sentiment"].label for label in labels)
        assert here.net_sentiment == (mood["positive"] - mood["negative"]) / 250
        steps = trends.series(reader.db, start_s + 300, start_s + 600, 60)
        assert sum(step.now.posts for step in steps) == 250
        assert sum(step.before.posts for step in steps) == 100
        assert len(steps) == 5
        by_source = {
            g.name: g for g in trends.groups(reader.db, "source", start_s + 300, start_s + 600)
        }
        assert sum(g.now.posts for g in by_source.values()) == 250
        assert sum(g.before.posts for g in by_source.values()) == 100
        authors = trends.top_authors(reader.db, start_s, start_s + 600, limit=100)
        assert sum(a.posts for a in authors) == 350
        assert authors[0].posts == max(a.posts for a in authors)
