"""The read model, written: in SQLite or PostgreSQL, by one writer beside any number of readers.

Invariant: what a batch changes and the offsets that say so are ONE transaction. A projector
killed at any moment therefore leaves a read model without a gap, and reading on counts nothing twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from dashboard.database import (
    Database,
    database_errors,
    is_away,
    made_again_hint,
    open_to_write,
    reason_of,
)
from dashboard.errors import ReadModelAwayError, ReadModelError
from dashboard.outcome_store import AUDITED, Outcomes, put_outcomes
from dashboard.ownership import handed_over
from dashboard.projection import DeadLetterRow, PostRow
from dashboard.retention import drop_old
from dashboard.rollup import Counted, Deltas, total_scores
from dashboard.schema import TOTALS_SINCE, migrate
from dashboard.worker_beats import WorkerRow, forget_workers, put_workers
from stream.database_url import ReadModelAt

_IDS_A_QUERY: Final = 500  # well under SQLite's bound on parameters
_HELD: Final = (
    "SELECT post_id, id, origin_ms, origin_partition, origin_offset, labelled_ms, retracted,"  # noqa: S608
    " posted_ms, source, language, sentiment, toxicity, models, score_set, scores FROM posts"
    f" WHERE post_id IN ({', '.join('?' * _IDS_A_QUERY)})"  # nothing but placeholders
)
_POST_COLUMNS: Final = (*PostRow._fields[:-4], "models", "score_set", "scores")
_PUT_POST: Final = (
    f"INSERT INTO posts VALUES ({', '.join('?' * (1 + len(_POST_COLUMNS)))}) ON CONFLICT (id)"  # noqa: S608  constants
    f" DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _POST_COLUMNS)}"
)
_PRUNE_POSTS: Final = 5_000  # so that one transaction of deletions stays short


@dataclass(slots=True)
class Batch:
    """What was read between two transactions; `offsets` are the next to be read."""

    posts: list[PostRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    outcomes: Outcomes = field(default_factory=Outcomes)
    workers: list[WorkerRow] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class PartitionBacklog:
    """How far the workers are on one partition of `posts`; `committed` is None before the first."""

    partition: int
    end_offset: int
    committed: int | None
    waiting: int


class Store:
    """The writer. There is one per read model: a second is refused.

    Args:
        at: a file or a database; made, with its folder or schema, where it is not there.
        retention_posts: the newest this many posts are kept; rollups outlive them.
        retention_days: posts older than this are not kept either.
        retention_audit: entries about decisions that the audit keeps; people's are all kept.

    Raises:
        ReadModelError: it is in use by another projector, newer than we are, or not ours.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """

    def __init__(
        self,
        at: ReadModelAt,
        *,
        retention_posts: int = 1_000_000,
        retention_days: int = 36_500,
        retention_audit: int = 5_000_000,
    ) -> None:
        self.at = at
        self._retention_posts = retention_posts
        self._retention_days = retention_days
        self._retention_audit = retention_audit
        with _explained(at):
            # Used from more than one thread, never by two at a time: the projector sees to that.
            self._db: Database = open_to_write(at)
            try:
                migrate(self._db, at)
                self._remember()
                self._total_scores()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it and let another projector in."""
        self._db.close()

    def handed_over(self) -> bool:
        """Whether a rebuild is about to put another read model in this one's place."""
        return handed_over(self.at)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is written, or nothing."""
        with _explained(self.at):
            try:
                with self._db.exclusively():
                    yield
            except BaseException:
                # What was only ever in memory must not outlive the rows it described.
                with suppress(*database_errors()):
                    self._remember()
                raise

    def _remember(self) -> None:
        """What is looked up too often to ask the database."""
        self._count: int = self._one("SELECT count(*) FROM posts")
        self._decisions: int = self._one("SELECT count(*) FROM decisions")
        self._models: dict[str, int] = dict(self._db.execute("SELECT models, id FROM models"))
        self._score_sets: dict[str, int] = dict(
            self._db.execute("SELECT names, id FROM score_sets")
        )
        self._pruned: dict[int, int] = dict(self._db.execute("SELECT * FROM pruned"))
        self._decisions_pruned: dict[int, int] = dict(
            self._db.execute("SELECT * FROM decisions_pruned")
        )

    def _total_scores(self) -> None:
        """A read model of before there were totals gets them, however often that is interrupted."""
        if self._db.version() < TOTALS_SINCE:
            return
        scores, totals = (
            self._db.execute(f"SELECT width_s FROM {table} LIMIT 1").fetchone()  # noqa: S608  constants
            for table in ("score_rollups", "score_totals")
        )
        if scores and not totals:
            with self._db.exclusively():
                total_scores(self._db)

    def apply(self, batch: Batch) -> None:
        """Write a batch and its offsets; what was there already changes nothing."""
        with self.transaction():
            self._put_posts(batch.posts)
            self._put_dead_letters(batch.dead_letters)
            self._decisions += put_outcomes(self._db, batch.outcomes, self._decisions_pruned)
            put_workers(self._db, batch.workers)
            batch.counters["labels"] += len(batch.posts)
            batch.counters["decisions"] += len(batch.outcomes.decisions)
            self._db.executemany(
                "INSERT INTO counters VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET n = counters.n + excluded.n",
                batch.counters.items(),
            )
            self._db.executemany(
                "INSERT INTO offsets VALUES (?, ?, ?) ON CONFLICT (topic, partition)"
                " DO UPDATE SET next_offset = excluded.next_offset",
                [(*place, offset) for place, offset in batch.offsets.items()],
            )

    def offsets(self, topic: str) -> dict[int, int]:
        """Partition to the next offset to be read."""
        rows = self._db.execute(
            "SELECT partition, next_offset FROM offsets WHERE topic = ?", (topic,)
        )
        return dict(rows.fetchall())

    def topic_id(self, topic: str) -> str | None:
        """The id that the broker gave the topic when it was last read."""
        row = self._db.execute("SELECT topic_id FROM topics WHERE topic = ?", (topic,)).fetchone()
        return row[0] if row else None

    def remember_topic(self, topic: str, topic_id: str) -> None:
        """Keep the topic's id, to notice when it is another topic of the same name."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO topics VALUES (?, ?) ON CONFLICT (topic)"
                " DO UPDATE SET topic_id = excluded.topic_id",
                (topic, topic_id),
            )

    def forget_offsets(self, topic: str) -> None:
        """The topic was made anew: its offsets start again, and old places say nothing."""
        with self.transaction():
            self._db.execute("DELETE FROM offsets WHERE topic = ?", (topic,))
            self._db.execute("DELETE FROM pruned")
            self._db.execute("DELETE FROM decisions_pruned")
            for audited in AUDITED:
                if topic.endswith(audited):
                    # What was chained stays; what comes now is another chain.
                    self._db.execute(
                        "INSERT INTO counters VALUES (?, 2)"
                        " ON CONFLICT (name) DO UPDATE SET n = counters.n + 1",
                        (f"generation:{audited}",),
                    )
        self._pruned, self._decisions_pruned = {}, {}

    def beat(self, component: str, state: str, at_ms: int, detail: Mapping[str, Any]) -> None:
        """Say that a component lives, and how it is."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO status VALUES (?, ?, ?, ?) ON CONFLICT (component)"
                " DO UPDATE SET at_ms = excluded.at_ms, state = excluded.state, detail = excluded.detail",
                (component, at_ms, state, json.dumps(detail)),
            )

    def notice(self, kind: str, message: str, at_ms: int) -> None:
        """Something a person should know of, shown on the System page."""
        with self.transaction():
            self._db.execute("INSERT INTO notices VALUES (?, ?, ?)", (at_ms, kind, message))

    def sample_backlog(self, partitions: Sequence[PartitionBacklog], at_ms: int) -> None:
        """How many posts wait for a worker now."""
        with self.transaction():
            self._db.execute("DELETE FROM backlog")
            self._db.executemany(
                "INSERT INTO backlog VALUES (?, ?, ?, ?, ?)",
                [(p.partition, p.end_offset, p.committed, p.waiting, at_ms) for p in partitions],
            )
            self._db.execute(
                "INSERT INTO backlog_history VALUES (?, ?) ON CONFLICT (second)"
                " DO UPDATE SET waiting = excluded.waiting",
                (at_ms // 1000, sum(p.waiting for p in partitions)),
            )

    def tidy(self, now_ms: int) -> None:
        """Drop what is older than its retention; coarse rollups stay."""
        oldest_ms = now_ms - self._retention_days * 86_400_000
        for table in ("posts", "decisions"):
            while self._prune(table, oldest_ms):
                pass
        with self.transaction():
            forget_workers(self._db, now_ms)
            drop_old(self._db, now_ms, self._retention_audit)

    def _put_posts(self, posts: Sequence[PostRow]) -> None:
        newest: dict[str, PostRow] = {}
        for post in posts:
            rival = newest.get(post.post_id)
            if rival is None or post.wins_over(rival):
                newest[post.post_id] = post
        held = self._held(list(newest))
        model_ids = self._model_ids(posts)
        deltas = Deltas()
        added: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        gone: list[tuple[int]] = []
        next_id = 1 + (self._one("SELECT max(id) FROM posts") or 0)
        for post_id, post in newest.items():
            known = held.get(post_id)
            if known is None:
                if post.origin_offset <= self._pruned.get(post.origin_partition, -1):
                    continue  # a late duplicate of a post that retention has dropped and counted
                row_id, next_id = next_id, next_id + 1
                self._count += 1
            else:
                row_id, order, labelled_ms, counted = known
                if (post[1:4], -post.labelled_ms) <= (order, -labelled_ms):
                    continue
                if counted is not None:
                    deltas.count(counted, -1)
            models = model_ids.get(post.models, 0)
            score_set = self._score_set(post.score_names)
            row = (row_id, *post[:-4], models, score_set, post.scores, post.record)
            (added if known is None else changed).append(row)
            if post.retracted:
                gone.append((row_id,))
            else:
                deltas.count(
                    Counted(
                        post.posted_ms,
                        post.labelled_ms,
                        post.source,
                        post.language,
                        post.sentiment,
                        post.toxicity,
                        models,
                        score_set,
                        post.scores,
                    ),
                    1,
                )
        self._db.add("posts", [row[:-1] for row in added])
        self._db.add("records", [(row[0], row[-1]) for row in added if row[-1]])
        self._db.put(_PUT_POST, [row[:-1] for row in changed])
        self._db.put(
            "INSERT INTO records VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            [(row[0], row[-1]) for row in changed if row[-1]],
        )
        self._db.executemany("DELETE FROM records WHERE id = ?", gone)
        deltas.write(self._db, {n: names for names, n in self._score_sets.items()})

    def _held(
        self, post_ids: Sequence[str]
    ) -> dict[str, tuple[int, tuple[int, int, int], int, Counted | None]]:
        held = {}
        for start in range(0, len(post_ids), _IDS_A_QUERY):
            some = post_ids[start : start + _IDS_A_QUERY]
            padded = [*some, *[some[0]] * (_IDS_A_QUERY - len(some))]
            for row in self._db.execute(_HELD, padded):
                counted = None if row[6] else Counted(row[7], row[5], *row[8:])
                held[row[0]] = (row[1], (row[2], row[3], row[4]), row[5], counted)
        return held

    def _score_set(self, names: str) -> int:
        if not names:
            return 0
        found = self._score_sets.get(names)
        if found is None:
            self._db.execute("INSERT INTO score_sets (names) VALUES (?)", (names,))
            found = int(self._one("SELECT id FROM score_sets WHERE names = ?", names))
            self._score_sets[names] = found
        return found

    def _model_ids(self, posts: Sequence[PostRow]) -> dict[str, int]:
        """The ids of the sets of models seen in a batch, first and last use brought up to date."""
        seen: dict[str, list[int]] = {}
        for post in posts:
            if post.models:
                times = seen.setdefault(post.models, [post.labelled_ms, post.labelled_ms])
                times[0] = min(times[0], post.labelled_ms)
                times[1] = max(times[1], post.labelled_ms)
        for models, (first_ms, last_ms) in seen.items():
            if models not in self._models:
                self._db.execute(
                    "INSERT INTO models (models, posts, first_ms, last_ms) VALUES (?, 0, ?, ?)",
                    (models, first_ms, last_ms),
                )
                self._models[models] = self._one("SELECT id FROM models WHERE models = ?", models)
                continue
            self._db.execute(
                "UPDATE models SET first_ms = CASE WHEN ? < first_ms THEN ? ELSE first_ms END,"
                " last_ms = CASE WHEN ? > last_ms THEN ? ELSE last_ms END WHERE id = ?",
                (first_ms, first_ms, last_ms, last_ms, self._models[models]),
            )
        return self._models

    def _put_dead_letters(self, letters: Sequence[DeadLetterRow]) -> None:
        self._db.executemany(
            f"INSERT INTO dead_letters VALUES ({', '.join('?' * 12)})"  # noqa: S608  constant
            " ON CONFLICT (dead_letter_id) DO NOTHING",
            letters,
        )

    def _prune(self, table: str, oldest_ms: int) -> int:
        """Drop some of the oldest posts or decisions; how many. What waits for a review stays."""
        posts = table == "posts"
        count = self._count if posts else self._decisions
        surplus = max(count - self._retention_posts, 0)
        marks = self._pruned if posts else self._decisions_pruned
        place = "origin" if posts else "place"
        with self.transaction():
            oldest = self._db.execute(
                f"SELECT id, {place}_partition, {place}_offset FROM {table}"  # noqa: S608  constants
                f" WHERE {'' if surplus else 'posted_ms < ? AND '}post_id NOT IN"
                " (SELECT post_id FROM queue) ORDER BY posted_ms, id LIMIT ?",
                (min(surplus, _PRUNE_POSTS),) if surplus else (oldest_ms, _PRUNE_POSTS),
            ).fetchall()
            ids = [(row[0],) for row in oldest]
            beside = "records" if posts else "decision_details"
            self._db.executemany(f"DELETE FROM {table} WHERE id = ?", ids)  # noqa: S608  a constant
            self._db.executemany(f"DELETE FROM {beside} WHERE id = ?", ids)  # noqa: S608  a constant
            for _, partition, offset in oldest:
                marks[partition] = max(marks.get(partition, -1), offset)
            self._db.executemany(
                f"INSERT INTO {'pruned' if posts else 'decisions_pruned'} VALUES (?, ?)"  # noqa: S608
                " ON CONFLICT (partition) DO UPDATE SET through_offset = excluded.through_offset",
                marks.items(),
            )
        if posts:
            self._count -= len(ids)
        else:
            self._decisions -= len(ids)
        return len(ids)

    def _one(self, sql: str, *parameters: Any) -> Any:
        row = self._db.execute(sql, parameters).fetchone()
        return row[0] if row else None


@contextmanager
def _explained(at: ReadModelAt) -> Iterator[None]:
    try:
        yield
    except database_errors() as exc:
        kind = ReadModelAwayError if is_away(exc) else ReadModelError
        raise kind(
            f"the read model cannot be written: {reason_of(exc)}",
            where=str(at),
            hint=made_again_hint(at),
        ) from exc
