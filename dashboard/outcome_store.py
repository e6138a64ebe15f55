"""Decisions, reviews and the rest, written: one batch, inside the caller's transaction.

Invariant: a rollup of decisions is the count over the decisions in force, so that one that is
replaced is subtracted with exactly what was added for it; an audited record is chained once,
whatever is read again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dashboard.audit_chain import GENESIS, Entry, chained
from dashboard.database import Database
from dashboard.outcome_rows import (
    AlertRow,
    DecisionRow,
    DeliveryRow,
    EventRow,
    MetricRow,
    ReviewRow,
    order_of,
    upholds,
)
from dashboard.projection import COARSE_S

HOUR_S: Final = 3600
#: Audited topics, by their names in the catalogue.
AUDITED: Final = ("decisions", "reviews", "audit")
_IDS_A_QUERY: Final = 500
_MARKS: Final = ", ".join("?" * _IDS_A_QUERY)
_HELD: Final = (
    "SELECT post_id, id, place_ms, place_partition, place_offset, by_person, decided_ms,"  # noqa: S608
    " decision_id, action, policy_action, judged, posted_ms, source, language, rules, retracted"
    f" FROM decisions WHERE post_id IN ({_MARKS})"  # nothing but placeholders
)
_REVIEWED: Final = f"SELECT DISTINCT post_id FROM reviews WHERE post_id IN ({_MARKS})"  # noqa: S608  as above
#: In the queue is what the policy wants reviewed, or somebody escalated, and nobody judged since.
_ENQUEUE: Final = """
INSERT INTO queue
SELECT post_id, basis_id, severity, posted_ms, language, escalated FROM (
    SELECT d.*,
        CASE WHEN EXISTS (SELECT 1 FROM reviews AS r WHERE r.post_id = d.post_id
            AND r.verdict = 'escalate' AND r.decision_id IN ('', d.basis_id)
            AND NOT EXISTS (SELECT 1 FROM reviews AS u
                WHERE u.undoes = r.review_id AND u.undoes <> '')) THEN 1 ELSE 0 END AS escalated,
        CASE WHEN EXISTS (SELECT 1 FROM reviews AS r WHERE r.post_id = d.post_id
            AND r.verdict = 'decide' AND r.decision_id IN ('', d.basis_id)
            AND NOT EXISTS (SELECT 1 FROM reviews AS u
                WHERE u.undoes = r.review_id AND u.undoes <> ''))
        OR (d.judged = 1 AND NOT EXISTS (SELECT 1 FROM reviews AS u
            WHERE u.undoes = substr(d.decision_id, 8) AND u.undoes <> '')) THEN 1 ELSE 0 END AS done
    FROM decisions AS d WHERE d.post_id = ? AND d.retracted = 0
) AS found WHERE done = 0 AND (policy_action = 'review' OR escalated = 1)
"""


@dataclass(slots=True)
class Outcomes:
    """What was read besides labels and dead letters; `entries` by chain, in the order read."""

    decisions: list[DecisionRow] = field(default_factory=list)
    reviews: list[ReviewRow] = field(default_factory=list)
    alerts: list[AlertRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    metrics: list[MetricRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=dict)


def put_outcomes(db: Database, outcomes: Outcomes, pruned: dict[int, int]) -> int:
    """Write a batch; what was there already changes nothing.

    Args:
        db: the read model, in a transaction.
        outcomes: the batch.
        pruned: by partition, how far decisions were dropped by retention, and must not come back.

    Returns:
        How many rows `decisions` has gained.
    """
    gained, touched = _put_decisions(db, outcomes.decisions, pruned)
    if outcomes.reviews:
        db.executemany(
            f"{_insert('reviews', 12)} ON CONFLICT (review_id) DO NOTHING",
            outcomes.reviews,
        )
        touched |= {review.post_id for review in outcomes.reviews}
    if touched:
        posts = [(post_id,) for post_id in sorted(touched)]
        db.executemany("DELETE FROM queue WHERE post_id = ?", posts)
        db.executemany(_ENQUEUE, posts)
    if outcomes.alerts:
        db.executemany(
            f"{_insert('alerts', 10)} ON CONFLICT (alert_id) DO UPDATE SET"
            " rule = excluded.rule, kind = excluded.kind, state = excluded.state,"
            " severity = excluded.severity, started_ms = excluded.started_ms,"
            " at_ms = excluded.at_ms, resolved_ms = excluded.resolved_ms, test = excluded.test,"
            " record = excluded.record WHERE excluded.at_ms > alerts.at_ms"
            " OR (excluded.at_ms = alerts.at_ms AND excluded.state = 'resolved')",
            outcomes.alerts,
        )
        # The record of an episode's end says neither what was seen nor which posts showed it.
        db.executemany(
            f"{_insert('alert_firings', 3)} ON CONFLICT (alert_id) DO UPDATE SET"
            " at_ms = excluded.at_ms, record = excluded.record"
            " WHERE excluded.at_ms > alert_firings.at_ms",
            [(a.alert_id, a.at_ms, a.record) for a in outcomes.alerts if a.state == "firing"],
        )
    if outcomes.deliveries:
        db.executemany(
            f"{_insert('deliveries', 12)} ON CONFLICT (delivery_id) DO NOTHING",
            outcomes.deliveries,
        )
    if outcomes.metrics:
        db.executemany(
            f"{_insert('metrics', 13)}"
            " ON CONFLICT (width_s, dimension, name, start_s, partition, of_topic) DO UPDATE SET"
            " revision = excluded.revision, posts = excluded.posts, positive = excluded.positive,"
            " neutral = excluded.neutral, negative = excluded.negative, toxic = excluded.toxic,"
            " record = excluded.record WHERE excluded.revision > metrics.revision",
            outcomes.metrics,
        )
    if outcomes.events:
        db.executemany(
            f"{_insert('events', 6)} ON CONFLICT (event_id) DO NOTHING",
            outcomes.events,
        )
    for topic, entries in outcomes.entries.items():
        chain_entries(db, topic, entries)
    return gained


def chain_entries(db: Database, topic: str, entries: Iterable[Entry]) -> None:
    """Append to a topic's chains what is not in them yet."""
    by_partition: dict[int, list[Entry]] = {}
    for entry in entries:
        by_partition.setdefault(entry.partition, []).append(entry)
    name = chain_name(db, topic)
    for partition, read in by_partition.items():
        head = db.execute(
            "SELECT next_offset, hash FROM audit_heads WHERE topic = ? AND partition = ?",
            (name, partition),
        ).fetchone()
        next_offset, previous = (0, GENESIS) if head is None else head
        fresh = [entry for entry in read if entry.offset >= next_offset]
        if not fresh:
            continue
        rows = [(name, *entry, hash_) for entry, hash_ in chained(name, previous, fresh)]
        db.put(
            'INSERT INTO audit (topic, partition, "offset", at_ms, who, what, on_what, detail,'
            " by_person, record_sha256, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.execute(
            f"{_insert('audit_heads', 7)} ON CONFLICT (topic, partition)"
            " DO UPDATE SET next_offset = excluded.next_offset, hash = excluded.hash,"
            " entries = audit_heads.entries + excluded.entries",
            (
                name,
                partition,
                fresh[-1].offset + 1,
                rows[-1][-1],
                len(fresh),
                fresh[0].offset,
                previous,
            ),
        )


def chain_name(db: Database, topic: str) -> str:
    """The topic's name; with a number where the topic was deleted and made anew."""
    row = db.execute("SELECT n FROM counters WHERE name = ?", (f"generation:{topic}",)).fetchone()
    return topic if row is None else f"{topic}#{row[0]}"


def _put_decisions(  # noqa: C901 - one case after the other of what is held already
    db: Database, decisions: Sequence[DecisionRow], pruned: dict[int, int]
) -> tuple[int, set[str]]:
    """Rows gained, and the posts whose place in the queue may be another."""
    if not decisions:
        return 0, set()
    newest = _newest(decisions)
    held = {row[0]: row[1:] for row in _each(db, _HELD, list(newest))}
    counts = _Counts()
    added: list[tuple[Any, ...]] = []
    replaced: list[tuple[Any, ...]] = []
    actions: list[tuple[str, int]] = []
    touched: set[str] = set()
    row = db.execute("SELECT max(id) FROM decisions").fetchone()
    next_id, gained = 1 + (row[0] or 0), 0
    for post_id, decision in newest.items():
        known = held.get(post_id)
        if known is None:
            if decision.place_offset <= pruned.get(decision.place_partition, -1):
                continue  # a late duplicate of what retention has dropped and counted
            row_id, next_id, gained = next_id, next_id + 1, gained + 1
        else:
            row_id, *columns = known
            same_place = columns[:3] == list(decision[1:4])
            if decision.order <= order_of(*columns[:6]):
                if same_place and decision.policy_action and not columns[7]:
                    actions.append((decision.policy_action, row_id))
                    touched.add(post_id)
                continue
            if same_place and not decision.policy_action:
                decision = decision._replace(policy_action=columns[7])  # noqa: PLW2901
            _, _, _, _, _, _, action, _, judged, posted_ms, source, language, rules, gone = columns
            if not gone:
                counts.add(action, judged, posted_ms, source, language, rules, -1)
        if known is not None or decision.policy_action == "review":
            touched.add(post_id)
        (added if known is None else replaced).append((row_id, *decision))
        if not decision.retracted:
            counts.add(
                decision.action, decision.judged, decision.posted_ms, decision.source,
                decision.language, decision.rules, 1,
            )  # fmt: skip
    db.add("decisions", [row[:-1] for row in added])
    db.add("decision_details", [(row[0], row[-1]) for row in added if row[-1]])
    _replace_decisions(db, replaced)
    db.executemany("UPDATE decisions SET policy_action = ? WHERE id = ?", actions)
    counts.write(db)
    # A review may have been read before the decision that it answers.
    touched.update(row[0] for row in _each(db, _REVIEWED, list(newest)))
    return gained, touched


def _newest(decisions: Sequence[DecisionRow]) -> dict[str, DecisionRow]:
    """By post, the decision of a batch that counts."""
    newest: dict[str, DecisionRow] = {}
    for row in decisions:
        rival = newest.get(row.post_id)
        newest[row.post_id] = row if rival is None else _either(row, rival)
    return newest


def _replace_decisions(db: Database, rows: Sequence[tuple[Any, ...]]) -> None:
    db.put(
        f"{_insert('decisions', 22)} ON CONFLICT (id) DO UPDATE SET {_REPLACED}",
        [row[:-1] for row in rows],
    )
    db.put(
        "INSERT INTO decision_details VALUES (?, ?)"
        " ON CONFLICT (id) DO UPDATE SET detail = excluded.detail",
        [(row[0], row[-1]) for row in rows if row[-1]],
    )
    db.executemany(
        "DELETE FROM decision_details WHERE id = ?", [(row[0],) for row in rows if not row[-1]]
    )


_REPLACED: Final = ", ".join(
    f"{name} = excluded.{name}" for name in DecisionRow._fields if name != "detail"
)


def _either(one: DecisionRow, other: DecisionRow) -> DecisionRow:
    """The one that counts, knowing what the policy said where the other knows."""
    winner, loser = (one, other) if one.order > other.order else (other, one)
    if not winner.policy_action and winner[1:4] == loser[1:4]:
        return winner._replace(policy_action=loser.policy_action)
    return winner


class _Counts:
    """What a batch changes in the rollups of decisions."""

    def __init__(self) -> None:
        self.rules: dict[tuple[int, str, str, str], list[int]] = {}
        self.actions: Counter[tuple[int, str, str, str]] = Counter()

    def add(  # noqa: PLR0917 - as the columns stand
        self,
        action: str,
        judged: int,
        posted_ms: int,
        source: str,
        language: str,
        rules: str,
        sign: int,
    ) -> None:
        """Count a decision in force (`sign` 1) or take it back (-1)."""
        posted_s = posted_ms // 1000
        self.actions[posted_s - posted_s % COARSE_S, action, source, language] += sign
        if rules:
            upheld = judged and upholds(action)
            for rule, version, mode in json.loads(rules):
                key = (posted_s - posted_s % HOUR_S, rule, version, mode)
                count = self.rules.setdefault(key, [0, 0, 0])
                count[0] += sign
                count[1] += sign * judged
                count[2] += sign * upheld

    def write(self, db: Database) -> None:
        """Apply the changes; a count that falls to nothing leaves no row."""
        rules = [(*key, *count) for key, count in self.rules.items() if any(count)]
        actions = [(*key, n) for key, n in self.actions.items() if n]
        db.put(
            f"{_insert('rule_rollups', 7)}"
            " ON CONFLICT (start_s, rule, version, mode) DO UPDATE SET"
            " matches = rule_rollups.matches + excluded.matches,"
            " judged = rule_rollups.judged + excluded.judged,"
            " upheld = rule_rollups.upheld + excluded.upheld",
            rules,
        )
        db.put(
            f"{_insert('action_rollups', 5)}"
            " ON CONFLICT (start_s, action, source, language) DO UPDATE SET"
            " posts = action_rollups.posts + excluded.posts",
            actions,
        )
        db.executemany(
            "DELETE FROM rule_rollups WHERE start_s = ? AND rule = ? AND version = ? AND mode = ?"
            " AND matches <= 0",
            [key for key, count in self.rules.items() if count[0] < 0],
        )
        db.executemany(
            "DELETE FROM action_rollups WHERE start_s = ? AND action = ? AND source = ?"
            " AND language = ? AND posts <= 0",
            [key for key, n in self.actions.items() if n < 0],
        )


def _each(db: Database, sql: str, ids: Sequence[str]) -> Iterable[Any]:
    for start in range(0, len(ids), _IDS_A_QUERY):
        some = ids[start : start + _IDS_A_QUERY]
        yield from db.execute(sql, [*some, *[some[0]] * (_IDS_A_QUERY - len(some))])


def _insert(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608  constants
