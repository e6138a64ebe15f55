"""What one batch changes in the rollups: counted in memory, written once per key.

Invariant: a rollup is the count over the posts that stand, so a post that is replaced or
retracted is subtracted with exactly what was added for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dashboard.database import Database
from dashboard.projection import (
    FINE_S,
    SCORE_BINS,
    SCORE_DAY_S,
    SCORE_HOUR_S,
    WIDTHS_S,
    latency_bin,
)


class Counted(NamedTuple):
    """The part of a post that rollups depend on."""

    posted_ms: int
    labelled_ms: int
    source: str
    language: str
    sentiment: str
    toxicity: str
    models: int
    score_set: int
    scores: bytes | None


#: How a histogram of scores is stored: posts by hundredth.
STORED_COUNTS: Final = np.dtype("<u4")
Counts = npt.NDArray[np.int64]
_ROLLUP_KEY: Final = (
    "width_s = ? AND start_s = ? AND source = ? AND language = ? AND sentiment = ? AND toxicity = ?"
)


class Deltas:
    """Additions and subtractions of one batch."""

    def __init__(self) -> None:
        self.fine: Counter[tuple[int, str, str, str, str]] = Counter()
        self.labelled: Counter[int] = Counter()
        self.latency: Counter[tuple[int, int]] = Counter()
        self.models: Counter[int] = Counter()
        self.scores: dict[tuple[int, int, int, int, str], list[bytes]] = {}

    def count(self, post: Counted, sign: int) -> None:
        """Add a post (`sign` 1) or take it back (-1)."""
        posted_s, labelled_s = post.posted_ms // 1000, post.labelled_ms // 1000
        fine_s = posted_s - posted_s % FINE_S
        self.fine[fine_s, post.source, post.language, post.sentiment, post.toxicity] += sign
        self.labelled[labelled_s] += sign
        bin_ = latency_bin(post.labelled_ms - post.posted_ms)
        self.latency[labelled_s - labelled_s % FINE_S, bin_] += sign
        self.models[post.models] += sign
        if post.scores:
            hour_s = posted_s - posted_s % SCORE_HOUR_S
            kind = (sign, post.score_set, hour_s, post.models, post.language)
            self.scores.setdefault(kind, []).append(post.scores)

    def write(self, connection: Database, score_sets: Mapping[int, str]) -> None:
        """Apply the changes; a count that falls to nothing leaves no row."""
        rollups = []
        counts = self.fine
        for width_s in WIDTHS_S:
            counts = counts if width_s == FINE_S else _widened(counts, width_s)
            rollups += [(width_s, *key, n) for key, n in counts.items() if n]
        latency = [(*key, n) for key, n in self.latency.items() if n]
        labelled = [(key, n) for key, n in self.labelled.items() if n]
        models = [(n, key) for key, n in self.models.items() if n]
        connection.put(
            "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (width_s, start_s, source, language, sentiment, toxicity)"
            " DO UPDATE SET posts = rollups.posts + excluded.posts",
            rollups,
        )
        connection.put(
            "INSERT INTO latency VALUES (?, ?, ?)"
            " ON CONFLICT (start_s, bin) DO UPDATE SET posts = latency.posts + excluded.posts",
            latency,
        )
        connection.put(
            "INSERT INTO labelled VALUES (?, ?)"
            " ON CONFLICT (second) DO UPDATE SET posts = labelled.posts + excluded.posts",
            labelled,
        )
        connection.executemany("UPDATE models SET posts = posts + ? WHERE id = ?", models)
        self._write_scores(connection, score_sets)
        # A bucket that was tidied away and is corrected now would stay negative: it goes too.
        connection.executemany(
            f"DELETE FROM rollups WHERE {_ROLLUP_KEY} AND posts <= 0",  # noqa: S608  constant
            [row[:-1] for row in rollups if row[-1] < 0],
        )
        connection.executemany(
            "DELETE FROM latency WHERE start_s = ? AND bin = ? AND posts <= 0",
            [row[:-1] for row in latency if row[-1] < 0],
        )
        connection.executemany(
            "DELETE FROM labelled WHERE second = ? AND posts <= 0",
            [row[:-1] for row in labelled if row[-1] < 0],
        )

    def _write_scores(self, connection: Database, score_sets: Mapping[int, str]) -> None:
        changes: _Scores = {}
        for (sign, set_id, hour_s, models, language), scores in self.scores.items():
            names = score_sets[set_id].split(" ")
            bins = np.frombuffer(b"".join(scores), np.uint8).reshape(-1, len(names))
            for column, name in enumerate(names):
                counts = sign * np.bincount(bins[:, column], minlength=SCORE_BINS)
                _add(changes, (SCORE_HOUR_S, name, hour_s, models, language), counts)
        _add_scores(connection, changes)


def _widened(
    counts: Counter[tuple[int, str, str, str, str]], width_s: int
) -> Counter[tuple[int, str, str, str, str]]:
    found: Counter[tuple[int, str, str, str, str]] = Counter()
    for (start_s, source, language, sentiment, toxicity), n in counts.items():
        found[start_s - start_s % width_s, source, language, sentiment, toxicity] += n
    return found


def hours_to_days(connection: Database, before_s: int) -> None:
    """Put the hours of scores before this second into their days: counted in one of them only."""
    before_s -= before_s % SCORE_DAY_S
    for table, columns in (_BY_LANGUAGE, _TOTALS):
        changes: _Scores = {}
        rows = connection.execute(
            f"SELECT {', '.join(columns)}, counts FROM {table} WHERE width_s = ? AND start_s < ?",  # noqa: S608  constants
            (SCORE_HOUR_S, before_s),
        ).fetchall()
        for _, label, start_s, *rest, held in rows:
            key = (SCORE_DAY_S, label, start_s - start_s % SCORE_DAY_S, *rest)
            _add(changes, key, np.frombuffer(held, STORED_COUNTS).astype(np.int64))
        _add_to(connection, table, columns, changes)
        connection.executemany(
            f"DELETE FROM {table} WHERE {_equal(columns)}",  # noqa: S608  constants
            [row[:-1] for row in rows],
        )


def total_scores(connection: Database) -> None:
    """Count the totals of all languages anew; inside a transaction."""
    connection.execute("DELETE FROM score_totals")
    changes: _Scores = {}
    for *key, _, held in connection.each(
        f"SELECT {', '.join(_BY_LANGUAGE[1])}, counts FROM score_rollups"  # noqa: S608  constants
    ):
        _add(changes, tuple(key), np.frombuffer(held, STORED_COUNTS).astype(np.int64))
    _add_to(connection, *_TOTALS, changes)


#: A table of scores, and what its rows are known by.
_BY_LANGUAGE: Final = ("score_rollups", ("width_s", "label", "start_s", "models", "language"))
_TOTALS: Final = ("score_totals", ("width_s", "label", "start_s", "models"))
#: Posts by hundredth of the score, by the columns that a row is known by.
_Scores = dict[tuple[object, ...], Counts]


def _add(changes: _Scores, key: tuple[object, ...], counts: Counts) -> None:
    known = changes.get(key)
    changes[key] = counts if known is None else known + counts


def _equal(columns: tuple[str, ...]) -> str:
    return " AND ".join(f"{column} = ?" for column in columns)


def _add_scores(connection: Database, changes: _Scores) -> None:
    """To the scores by language, and to those of all languages together."""
    totals: _Scores = {}
    for key, counts in changes.items():
        _add(totals, key[:-1], counts)
    _add_to(connection, *_BY_LANGUAGE, changes)
    _add_to(connection, *_TOTALS, totals)


def _add_to(connection: Database, table: str, columns: tuple[str, ...], changes: _Scores) -> None:
    rows, empty = [], []
    for key, counts in changes.items():
        held = connection.execute(
            f"SELECT counts FROM {table} WHERE {_equal(columns)}",  # noqa: S608  constants
            key,
        ).fetchone()
        if held is not None:
            counts = counts + np.frombuffer(held[0], STORED_COUNTS)  # noqa: PLW2901
        # A bucket that was tidied away and is corrected now would be negative: it stays empty.
        counts = np.maximum(counts, 0)  # noqa: PLW2901
        if counts.any():
            rows.append((*key, counts.astype(STORED_COUNTS).tobytes()))
        else:
            empty.append(key)
    connection.put(
        f"INSERT INTO {table} VALUES ({', '.join('?' * (len(columns) + 1))})"  # noqa: S608  constants
        f" ON CONFLICT ({', '.join(columns)}) DO UPDATE SET counts = excluded.counts",
        rows,
    )
    connection.executemany(
        f"DELETE FROM {table} WHERE {_equal(columns)}",  # noqa: S608  constants
        empty,
    )
