"""Stored scores: what a threshold would flag, and how scores drift.

Scores are held in bins a hundredth wide, by the hour the post was posted in; a
label is `task.label`, as rules write it (`toxicity.insult`). Ranges are widened to whole hours,
and where they are older than some days to whole days in UTC.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from dashboard.database import Database
from dashboard.projection import SCORE_BINS, SCORE_DAY_S, SCORE_HOUR_S
from dashboard.rollup import STORED_COUNTS


class ThresholdFigures(NamedTuple):
    """What a threshold would have done: of `posts` in the range it flags `flagged`.

    `judged` of those were reviewed by a person, and `fine` of these allowed.
    """

    threshold: float
    flagged: int
    posts: int
    flagged_an_hour: float
    judged: int
    fine: int


class Histogram(NamedTuple):
    """Posts by score; `counts[i]` of scores from `i / 100` to `(i + 1) / 100`."""

    label: str
    counts: tuple[int, ...]

    @property
    def posts(self) -> int:
        """How many scores."""
        return sum(self.counts)


class Drift(NamedTuple):
    """How far a label's scores are from a reference; `psi` is None where either has no posts.

    Under 0.1 is no change, to 0.25 a moderate one, above a large one (the usual reading).
    """

    label: str
    psi: float | None
    posts: int
    reference_posts: int


#: Bins of the population stability index: deciles are what its usual limits were set on.
PSI_BINS: Final = 10
#: Hours that are old have become days: each post is in one of them.
_WIDTHS_S: Final = (SCORE_HOUR_S, SCORE_DAY_S)
_LEAST_SHARE: Final = 1e-4


def score_labels(db: Database) -> list[str]:
    """Every `task.label` with stored scores."""
    names: set[str] = set()
    for (joined,) in db.execute("SELECT names FROM score_sets"):
        names.update(joined.split(" "))
    return sorted(name for name in names if name)


def histogram(
    db: Database,
    label: str,
    from_s: int,
    to_s: int,
    *,
    languages: Sequence[str] = (),
    models: int | None = None,
) -> Histogram:
    """The scores of a label over a range."""
    table, sql, values = "score_totals", "", list[object]()
    if languages:
        table = "score_rollups"
        sql += f" AND language IN ({', '.join('?' * len(languages))})"
        values += languages
    if models is not None:
        sql += " AND models = ?"
        values.append(models)
    rows = [
        row
        for width_s in _WIDTHS_S
        for row in db.execute(
            f"SELECT counts FROM {table} WHERE width_s = ? AND label = ?"  # noqa: S608  placeholders only
            f" AND start_s >= ? AND start_s < ?{sql}",
            [width_s, label, from_s - from_s % width_s, to_s, *values],
        )
    ]
    held = np.frombuffer(b"".join(row[0] for row in rows), STORED_COUNTS).reshape(-1, SCORE_BINS)
    counts = held.sum(axis=0, dtype=np.int64).tolist()
    return Histogram(label, tuple(counts))


def threshold_figures(
    db: Database,
    label: str,
    thresholds: Sequence[float],
    from_s: int,
    to_s: int,
    *,
    languages: Sequence[str] = (),
) -> list[ThresholdFigures]:
    """What each threshold would have flagged in the range, from stored scores alone.

    `flagged_an_hour` is over the hours (or days) from the first to the last with a post.
    """
    counts = histogram(db, label, from_s, to_s, languages=languages).counts
    hours = _hours(db, label, from_s, to_s)
    judged = _judged(db, label, from_s, to_s, languages)
    total = sum(counts)
    found = []
    for threshold in thresholds:
        first = score_bin(threshold)
        flagged = sum(counts[first:])
        verdicts = [fine for bin_, fine in judged if bin_ >= first]
        found.append(
            ThresholdFigures(
                threshold=threshold,
                flagged=flagged,
                posts=total,
                flagged_an_hour=flagged / hours if hours else 0.0,
                judged=len(verdicts),
                fine=sum(verdicts),
            )
        )
    return found


def drift(now: Histogram, reference: Histogram) -> Drift:
    """The population stability index between two histograms of one label.

    PSI = sum over bins of (p - q) ln(p / q), with the bins of the reference's deciles, and shares
    of nothing taken as 0.0001 (N. Siddiqi, "Credit Risk Scorecards", 2006).
    """
    if not now.posts or not reference.posts:
        return Drift(now.label, None, now.posts, reference.posts)
    edges = _deciles(reference.counts)
    psi = 0.0
    for from_bin, to_bin in itertools.pairwise(edges):
        p = max(sum(now.counts[from_bin:to_bin]) / now.posts, _LEAST_SHARE)
        q = max(sum(reference.counts[from_bin:to_bin]) / reference.posts, _LEAST_SHARE)
        psi += (p - q) * math.log(p / q)
    return Drift(now.label, psi, now.posts, reference.posts)


def drifts(
    db: Database,
    from_s: int,
    to_s: int,
    *,
    reference: Mapping[str, Sequence[int]] | None = None,
    reference_from_s: int | None = None,
    reference_to_s: int | None = None,
) -> list[Drift]:
    """The drift of every label over a range.

    Args:
        db: the read model.
        from_s: begin of the range.
        to_s: end of the range.
        reference: by label, posts by hundredth of the score: the dev distribution.
        reference_from_s: where `reference` has no histogram of a label: begin of the stretch to
            compare with; default: the week before the range.
        reference_to_s: its end; default: the begin of the range.
    """
    week_from = from_s - 7 * 86_400 if reference_from_s is None else reference_from_s
    week_to = from_s if reference_to_s is None else reference_to_s
    found = []
    for label in score_labels(db):
        if reference is not None and label in reference:
            before = Histogram(label, tuple(reference[label]))
        else:
            before = histogram(db, label, week_from, week_to)
        found.append(drift(histogram(db, label, from_s, to_s), before))
    return found


def score_bin(score: float) -> int:
    """The bin of a score; a threshold on a bin's edge takes that bin."""
    return min(max(int(score * SCORE_BINS + 1e-9), 0), SCORE_BINS - 1)


def _deciles(counts: Sequence[int]) -> list[int]:
    """Edges of bins with about a tenth of the posts each; fewer where one score holds several."""
    total, seen, edges = sum(counts), 0, [0]
    for bin_, posts in enumerate(counts[:-1], start=1):
        tenths = seen * PSI_BINS // total
        seen += posts
        if seen * PSI_BINS // total > tenths:
            edges.append(bin_)
    return [*edges, len(counts)]


def _hours(db: Database, label: str, from_s: int, to_s: int) -> float:
    begins, ends = [], []
    for width_s in _WIDTHS_S:
        first, last = db.execute(
            "SELECT min(start_s), max(start_s) FROM score_totals"
            " WHERE width_s = ? AND label = ? AND start_s >= ? AND start_s < ?",
            (width_s, label, from_s - from_s % width_s, to_s),
        ).fetchone()
        if first is not None:
            begins.append(first)
            ends.append(last + width_s)
    return (max(ends) - min(begins)) / 3600 if begins else 0.0


def _judged(
    db: Database, label: str, from_s: int, to_s: int, languages: Sequence[str]
) -> list[tuple[int, bool]]:
    """(bin of the score, whether a person allowed the post) of the judged posts of a range."""
    places = {
        set_id: names.split(" ").index(label)
        for set_id, names in db.execute("SELECT id, names FROM score_sets")
        if label in names.split(" ")
    }
    return [
        (scores[places[set_id]], action == "allow")
        for set_id, scores, action, language in db.execute(
            "SELECT p.score_set, p.scores, d.action, p.language FROM decisions AS d"
            " JOIN posts AS p ON p.post_id = d.post_id"
            " WHERE d.judged = 1 AND d.posted_ms >= ? AND d.posted_ms < ? AND p.retracted = 0",
            ((from_s - from_s % SCORE_HOUR_S) * 1000, to_s * 1000),
        )
        if set_id in places and scores and (not languages or language in languages)
    ]
