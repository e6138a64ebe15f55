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
    COARSE_S,
    FINE_S,
    SCORE_BINS,
    SCORE_DAY_S,
    SCORE_HOUR_S,
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
_SCORES_KEY: Final = "width_s = ? AND label = ? AND start_s = ? AND models = ? AND language = ?"
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
        coarse: Counter[tuple[int, str, str, str, str]] = Counter()
        for (start_s, *group), n in self.fine.items():
            coarse[(start_s - start_s % COARSE_S, *group)] += n  # type: ignore[index]
        rollups = [
            (width_s, *key, n)
            for width_s, counts in ((FINE_S, self.fine), (COARSE_S, coarse))
            for key, n in counts.items()
            if n
        ]
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
        changes: dict[tuple[int, str, int, int, str], Counts] = {}
        for (sign, set_id, hour_s, models, language), scores in self.scores.items():
            names = score_sets[set_id].split(" ")
            bins = np.frombuffer(b"".join(scores), np.uint8).reshape(-1, len(names))
            for column, name in enumerate(names):
                counts = sign * np.bincount(bins[:, column], minlength=SCORE_BINS)
                key = (SCORE_HOUR_S, name, hour_s, models, language)
                known = changes.get(key)
                changes[key] = counts if known is None else known + counts
        _add_scores(connection, changes)


def hours_to_days(connection: Database, before_s: int) -> None:
    """Put the hours of scores before this second into their days: counted in one of them only."""
    changes: dict[tuple[int, str, int, int, str], Counts] = {}
    rows = connection.execute(
        "SELECT label, start_s, models, language, counts FROM score_rollups"
        " WHERE width_s = ? AND start_s < ?",
        (SCORE_HOUR_S, before_s - before_s % SCORE_DAY_S),
    ).fetchall()
    for label, start_s, models, language, held in rows:
        key = (SCORE_DAY_S, label, start_s - start_s % SCORE_DAY_S, models, language)
        counts = np.frombuffer(held, STORED_COUNTS).astype(np.int64)
        changes[key] = changes[key] + counts if key in changes else counts
    _add_scores(connection, changes)
    connection.executemany(
        f"DELETE FROM score_rollups WHERE {_SCORES_KEY}",  # noqa: S608  constant
        [(SCORE_HOUR_S, *row[:-1]) for row in rows],
    )


def _add_scores(
    connection: Database, changes: Mapping[tuple[int, str, int, int, str], Counts]
) -> None:
    rows, empty = [], []
    for key, counts in changes.items():
        held = connection.execute(
            f"SELECT counts FROM score_rollups WHERE {_SCORES_KEY}",  # noqa: S608  constant
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
        "INSERT INTO score_rollups VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (width_s, label, start_s, models, language)"
        " DO UPDATE SET counts = excluded.counts",
        rows,
    )
    connection.executemany(
        f"DELETE FROM score_rollups WHERE {_SCORES_KEY}",  # noqa: S608  constant
        empty,
    )
