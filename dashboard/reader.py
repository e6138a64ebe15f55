"""The read model, read: every question a page asks, answered by one short read-only query each.

Invariant: a reader never writes and never holds a transaction open, so that it cannot hold up
the projector. The read model may appear, grow or be replaced while a page is open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dashboard.database import Database, database_errors, open_to_read, reason_of
from dashboard.errors import ReadModelError
from dashboard.projection import DAY_S, FINE_S, WIDTHS_S, bin_ms
from dashboard.schema import VERSION
from dashboard.scope import FeedFilter, Scope
from dashboard.stretches import KEPT_WIDTHS_S, counted, widths_within
from stream.database_url import ReadModelAt

#: Beyond this range shares are read from the coarse rollups and wider ones.
_FINE_RANGE_S: Final = 3600
#: What no index answers is looked for among the newest this many posts, so that it answers at once.
SEARCHED_POSTS: Final = 60_000
_GLANCE_POSTS: Final = 10_000
#: What a `PostView` is made of.
POST_COLUMNS: Final = (
    "post_id, posted_ms, labelled_ms, text, source, author, language, language_score,"
    " sentiment, sentiment_score, toxicity, toxicity_score, unsupported"
)


def _posts_where(condition: str) -> str:
    return f"coalesce(sum(posts) FILTER (WHERE {condition}), 0)"


_SENTIMENT_POSTS: Final = ", ".join(
    _posts_where(f"sentiment = '{name}'") for name in ("negative", "neutral", "positive")
)
_ABUSIVE_POSTS: Final = _posts_where("toxicity NOT IN ('', 'none')")


class PostView(NamedTuple):
    """A post in the feed."""

    post_id: str
    posted_ms: int
    labelled_ms: int
    text: str
    source: str
    author: str
    language: str
    language_score: float
    sentiment: str
    sentiment_score: float
    toxicity: str
    toxicity_score: float
    unsupported: str

    @property
    def abusive(self) -> bool:
        """Whether any toxicity label stands."""
        return self.toxicity not in ("", "none")


class Bucket(NamedTuple):
    """Posts of one stretch of time, by sentiment and toxicity."""

    start_s: int
    posts: int
    negative: int
    neutral: int
    positive: int
    abusive: int


@dataclass(frozen=True, slots=True)
class Status:
    """How one component is, and since when we know."""

    component: str
    at_ms: int
    state: str
    detail: dict[str, Any]

    def age_s(self, now_ms: int) -> float:
        """Seconds since the component was last heard of."""
        return max(now_ms - self.at_ms, 0) / 1000


@contextmanager
def open_reader(at: ReadModelAt, *, kept: bool = False) -> Iterator[Reader | None]:
    """A reader of a read model; None where there is none yet.

    Args:
        at: the read model.
        kept: see `dashboard.database.open_to_read`.

    Raises:
        ReadModelError: it is another version's, or no read model at all.
    """
    db: Database | None = None
    try:
        db = open_to_read(at, kept=kept)
        version = 0 if db is None else db.version()
        if version not in (0, VERSION):
            raise ReadModelError(
                f"the read model has version {version}, this dashboard reads {VERSION}",
                where=str(at),
                hint="restart `tidegate dashboard`, so that projector and pages are the same version",
            )
        yield Reader(db) if db is not None and version else None
    except database_errors() as exc:
        raise ReadModelError(
            f"the read model cannot be read: {reason_of(exc)}",
            where=str(at),
            hint="`tidegate dashboard rebuild` makes it again from the topics",
        ) from exc
    finally:
        if db is not None:
            db.close()


class Reader:
    """Questions and answers; see `open_reader`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def db(self) -> Database:
        """The connection, for the functions of `dashboard.queries`."""
        return self._db

    def status(self) -> dict[str, Status]:
        """Every component that ever reported."""
        return {
            row[0]: Status(row[0], row[1], row[2], json.loads(row[3]))
            for row in self._db.execute("SELECT component, at_ms, state, detail FROM status")
        }

    def counters(self) -> dict[str, int]:
        """Counts since the file was made: labels read, unreadable records."""
        return dict(self._db.execute("SELECT name, n FROM counters"))

    def newest_post_ms(self) -> int | None:
        """When the newest post was posted; None: there are none."""
        row = self._db.execute("SELECT max(posted_ms) FROM posts").fetchone()
        return row[0] if row else None

    def sources(self) -> list[str]:
        """Every source seen, the busiest first."""
        return self._names("source")

    def languages(self) -> list[str]:
        """Every language seen, the most frequent first."""
        return self._names("language")

    def _names(self, column: str) -> list[str]:
        assert column in ("source", "language")
        rows = self._db.execute(
            f"SELECT {column}, sum(posts) AS n FROM rollups WHERE width_s = ? AND {column} <> ''"  # noqa: S608
            " GROUP BY 1 ORDER BY n DESC LIMIT 200",
            (DAY_S,),
        )
        return [row[0] for row in rows]

    def buckets(self, scope: Scope, from_s: int, to_s: int, step_s: int) -> list[Bucket]:
        """Posts by when they were posted, one bucket a step, empty ones included."""
        rollups, parameters = counted(from_s, to_s, widths_within(step_s), scope)
        found = {
            row[0]: Bucket(*row)
            for row in self._db.execute(
                f"SELECT start_s - start_s % ?, sum(posts), {_SENTIMENT_POSTS}, {_ABUSIVE_POSTS}"  # noqa: S608  placeholders only
                f" FROM {rollups} GROUP BY 1",
                [step_s, *parameters],
            )
        }
        starts = range(from_s - from_s % step_s, to_s, step_s)
        return [found.get(start, Bucket(start, 0, 0, 0, 0, 0)) for start in starts]

    def total(self, scope: Scope, from_s: int, to_s: int) -> Bucket:
        """Posts of a whole stretch, in one: what `buckets` of it add up to, from the widest rollups.

        A stretch longer than an hour begins and ends with a whole rollup of five minutes.
        """
        widths = WIDTHS_S if to_s - from_s <= _FINE_RANGE_S else KEPT_WIDTHS_S
        rollups, parameters = counted(from_s, to_s, widths, scope)
        row = self._db.execute(
            f"SELECT CAST(coalesce(sum(posts), 0) AS BIGINT), {_SENTIMENT_POSTS}, {_ABUSIVE_POSTS}"  # noqa: S608  placeholders only
            f" FROM {rollups}",
            parameters,
        ).fetchone()
        return Bucket(from_s, *row)

    def languages_over_time(
        self, scope: Scope, from_s: int, to_s: int, step_s: int
    ) -> list[tuple[int, str, int]]:
        """(start, language, posts) of every step in which the language was seen."""
        rollups, parameters = counted(from_s, to_s, widths_within(step_s), scope)
        return self._db.execute(
            f"SELECT start_s - start_s % ?, language, sum(posts) FROM {rollups}"  # noqa: S608  placeholders only
            " GROUP BY 1, 2 ORDER BY 1, 2",
            [step_s, *parameters],
        ).fetchall()

    def shares(
        self, column: str, scope: Scope, from_s: int, to_s: int, *, abusive: bool = False
    ) -> list[tuple[str, int, int]]:
        """(name, posts, abusive posts) by language, source, sentiment or toxicity, most first."""
        assert column in ("language", "source", "sentiment", "toxicity")
        widths = WIDTHS_S if to_s - from_s <= _FINE_RANGE_S else KEPT_WIDTHS_S
        rollups, parameters = counted(from_s, to_s, widths, scope)
        where = "WHERE toxicity NOT IN ('', 'none')" if abusive else ""
        return self._db.execute(
            f"SELECT {column}, sum(posts) AS n, {_ABUSIVE_POSTS} FROM {rollups} {where}"  # noqa: S608
            " GROUP BY 1 ORDER BY n DESC, 1",
            parameters,
        ).fetchall()

    def labelled(self, from_s: int, to_s: int, step_s: int) -> list[tuple[int, int]]:
        """(start, posts labelled) by when they were labelled, empty steps included."""
        found = dict(
            self._db.execute(
                "SELECT second - second % ?, sum(posts) FROM labelled"
                " WHERE second >= ? AND second < ? GROUP BY 1",
                (step_s, from_s, to_s),
            )
        )
        return [
            (start, found.get(start, 0)) for start in range(from_s - from_s % step_s, to_s, step_s)
        ]

    def latency(
        self, from_s: int, to_s: int, step_s: int = FINE_S
    ) -> dict[int, list[tuple[int, int]]]:
        """Start of a step (of fine buckets) to its latency histogram, (bin, posts) in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for start, bin_, posts in self._db.execute(
            "SELECT start_s - start_s % ?, bin, sum(posts) FROM latency"
            " WHERE start_s >= ? AND start_s < ? GROUP BY 1, 2 ORDER BY 1, 2",
            (step_s, from_s, to_s),
        ):
            found.setdefault(start, []).append((bin_, posts))
        return found

    def feed(self, scope: Scope, feed: FeedFilter, limit: int) -> list[PostView]:
        """The newest posts that pass.

        What no index answers (a text, a score, a source) is looked for among the newest posts
        first, and only where that is not enough among `SEARCHED_POSTS`.
        """
        scoped, names = scope.where()
        searched = feed.scans or bool(scope.sources)
        filtered, values = feed.where(searched=searched)
        where, parameters = scoped + filtered, names + values
        if not searched:
            return self._posts(where, "posted_ms", parameters, limit)
        glance = self._db.execute(
            "SELECT posted_ms FROM posts ORDER BY posted_ms DESC LIMIT 1 OFFSET ?", (_GLANCE_POSTS,)
        ).fetchone()
        if glance is not None:
            recent = [*parameters, glance[0]]
            found = self._posts(f"{where} AND posted_ms > ?", "posted_ms", recent, limit)
            if len(found) == limit:
                return found
        # Sorted, not walked by time: reading the newest rows in a row is many times faster.
        where += " AND id > (SELECT max(id) - ? FROM posts)"
        return self._posts(where, "+posted_ms", [*parameters, SEARCHED_POSTS], limit)

    def _posts(self, where: str, order: str, parameters: list[Any], limit: int) -> list[PostView]:
        rows = self._db.execute(
            f"SELECT {POST_COLUMNS} FROM posts WHERE retracted = 0{where}"  # noqa: S608  placeholders only
            f" ORDER BY {order} DESC, id DESC LIMIT ?",
            [*parameters, limit],
        )
        return [PostView(*row) for row in rows]

    def post(self, post_id: str) -> tuple[PostView, bytes] | None:
        """A post and its label record as it was read; None: not there, or retracted."""
        row = self._db.execute(
            f"SELECT {POST_COLUMNS}, record FROM posts JOIN records USING (id)"  # noqa: S608  constant
            " WHERE post_id = ? AND retracted = 0",
            (post_id,),
        ).fetchone()
        return (PostView(*row[:-1]), row[-1]) if row else None

    def views(self, post_ids: Sequence[str]) -> dict[str, PostView | None]:
        """Those of some posts (a few hundred) that are there, by id; None: retracted."""
        rows = self._db.execute(
            f"SELECT {POST_COLUMNS}, retracted FROM posts"  # noqa: S608  placeholders only
            f" WHERE post_id IN ({', '.join('?' * len(post_ids))})",
            post_ids,
        )
        return {row[0]: None if row[-1] else PostView(*row[:-1]) for row in rows}

    def retracted(self, post_id: str) -> bool:
        """Whether the post was there and its author took it back."""
        row = self._db.execute(
            "SELECT retracted FROM posts WHERE post_id = ?", (post_id,)
        ).fetchone()
        return bool(row and row[0])

    def dead_letters(self, limit: int) -> list[dict[str, Any]]:
        """The newest dead letters, by column."""
        return self._rows(
            "SELECT * FROM dead_letters ORDER BY at_ms DESC, dead_letter_id DESC LIMIT ?", limit
        )

    def dead_letter_reasons(self) -> list[tuple[str, int]]:
        """(reason, how many), most first."""
        return self._db.execute(
            "SELECT reason, count(*) AS n FROM dead_letters GROUP BY 1 ORDER BY n DESC, 1"
        ).fetchall()

    def backlog(self) -> list[dict[str, Any]]:
        """Each partition of `posts` and how far the workers are."""
        return self._rows("SELECT * FROM backlog ORDER BY partition")

    def backlog_history(self, from_s: int, step_s: int = 1) -> list[tuple[int, int]]:
        """(start of a step, the most posts that waited in it), as sampled."""
        return self._db.execute(
            "SELECT second - second % ?, max(waiting) FROM backlog_history WHERE second >= ?"
            " GROUP BY 1 ORDER BY 1",
            (step_s, from_s),
        ).fetchall()

    def models(self) -> list[dict[str, Any]]:
        """Every set of models that labelled, the latest first."""
        return self._rows("SELECT * FROM models ORDER BY last_ms DESC")

    def notices(self, limit: int) -> list[dict[str, Any]]:
        """What a person should know of, the newest first."""
        return self._rows("SELECT * FROM notices ORDER BY at_ms DESC, kind, message LIMIT ?", limit)

    def size(self) -> tuple[int, int]:
        """(posts kept, bytes on disk)."""
        posts = self._db.execute("SELECT count(*) FROM posts").fetchone()[0]
        return posts, self._db.bytes_held()

    def _rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        cursor = self._db.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def percentile_ms(histogram: list[tuple[int, int]], q: float) -> float | None:
    """The latency that a share `q` of posts stays under; None: no posts."""
    total = sum(posts for _, posts in histogram)
    if total == 0:
        return None
    seen = 0
    for bin_, posts in histogram:
        seen += posts
        if seen >= q * total:
            return bin_ms(bin_)
    return bin_ms(histogram[-1][0])
