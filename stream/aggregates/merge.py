"""The reader's side of the `metrics` topic: keep the latest of each part, add the parts up.

A window and group comes in parts: one per partition and per topic counted (`of`), because nobody
sees all partitions. Invariant: whatever order records are read in, and however often, what
`Windows` answers is what their latest revisions add up to.

    windows = Windows()
    windows.add(decode_metric(value))              # every record of the topic
    for window in windows.series(60, "tag", "launch", since=start):
        window.posts, window.toxicity_rate, window.authors.estimate, window.top_terms(10)
    last_two_minutes = merged(windows.series(10, "all", "all", since=now - 120))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, NamedTuple

from stream.aggregates.sketches import (
    Distinct,
    Ranked,
    distinct,
    merged_authors,
    merged_items,
    ranked,
)
from stream.outcomes import Metric

By = Literal["all", "source", "language", "label", "action", "tag"]
#: The group of `by="all"`, and the group that takes what is beyond the bound on groups.
ALL: Final = "all"
OTHER: Final = "(other)"
#: The widths of windows, in seconds. Each is a multiple of the one before.
WIDTHS_S: Final = (10, 60, 3600)


class WindowKey(NamedTuple):
    """Which window (`start`, seconds since the epoch, and `width_s`) and which group of posts."""

    start: int
    width_s: int
    by: By
    group: str

    @property
    def end(self) -> int:
        """The first second after the window."""
        return self.start + self.width_s


@dataclass(frozen=True)
class Window:
    """What is known of one window and group, all its parts added up.

    `posts` counts each post once, with its latest label; deleted posts are not in it. `retracted`
    says how many contributions were taken back: that many posts may still be in `authors` and in
    the frequent items, which cannot forget. Sketches are merged when first asked for.
    """

    key: WindowKey
    posts: int = 0
    positive: int = 0
    neutral: int = 0
    negative: int = 0
    toxic: int = 0
    unsupported: int = 0
    retracted: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    parts: tuple[Metric, ...] = ()

    @property
    def net_sentiment(self) -> float | None:
        """Positive less negative posts, as a share of those with a sentiment: -1 to 1."""
        judged = self.positive + self.neutral + self.negative
        return (self.positive - self.negative) / judged if judged else None

    @property
    def toxicity_rate(self) -> float | None:
        """The share of posts with any toxicity label: 0 to 1."""
        return self.toxic / self.posts if self.posts else None

    @property
    def unsupported_rate(self) -> float | None:
        """The share of posts in a language that a task does not know: 0 to 1."""
        return self.unsupported / self.posts if self.posts else None

    @property
    def posts_per_s(self) -> float:
        """Volume."""
        return self.posts / self.key.width_s

    def action_rate(self, action: str) -> float | None:
        """The share of decided posts with this action: 0 to 1."""
        decided = sum(self.actions.values())
        return self.actions.get(action, 0) / decided if decided else None

    @cached_property
    def authors_sketch(self) -> bytes | None:
        """The merged sketch of distinct authors."""
        return merged_authors(part.authors for part in self.parts if part.authors is not None)

    @cached_property
    def authors(self) -> Distinct:
        """How many authors, with bounds."""
        return distinct(self.authors_sketch)

    def top_tags(self, most: int = 10) -> list[Ranked]:
        """The most frequent tags."""
        return ranked(merged_items(p.tags for p in self.parts if p.tags is not None), most)

    def top_domains(self, most: int = 10) -> list[Ranked]:
        """The most frequent domains of links."""
        return ranked(merged_items(p.domains for p in self.parts if p.domains is not None), most)

    def top_terms(self, most: int = 10) -> list[Ranked]:
        """The most frequent words of texts: a post counts once per word."""
        return ranked(merged_items(p.terms for p in self.parts if p.terms is not None), most)


def window_of(key: WindowKey, parts: Iterable[Metric]) -> Window:
    """The parts added up; each must be the latest of its partition and topic (or of its window)."""
    kept = tuple(parts)
    actions: Counter[str] = Counter()
    for part in kept:
        actions.update(part.actions)
    return Window(
        key=key,
        posts=sum(part.posts for part in kept),
        positive=sum(part.positive for part in kept),
        neutral=sum(part.neutral for part in kept),
        negative=sum(part.negative for part in kept),
        toxic=sum(part.toxic for part in kept),
        unsupported=sum(part.unsupported for part in kept),
        retracted=sum(part.retracted for part in kept),
        actions={action: n for action, n in actions.items() if n},
        parts=kept,
    )


def merged(windows: Iterable[Window]) -> Window | None:
    """Several windows of one group and width as one: from the first's start to the last's end."""
    kept = sorted(windows, key=lambda window: window.key.start)
    if not kept:
        return None
    first, last = kept[0].key, kept[-1].key
    key = WindowKey(first.start, last.end - first.start, first.by, first.group)
    return window_of(key, (part for window in kept for part in window.parts))


class Windows:
    """The windows of a stretch of time, from records of `metrics` in any order."""

    def __init__(self) -> None:
        #: Groups of posts by width and dimension, then windows by start, then the parts.
        self._series: dict[tuple[int, str, str], dict[int, dict[tuple[int, str], Metric]]] = {}

    def add(self, metric: Metric) -> WindowKey | None:
        """Take a record in; the key of the window it changes, None if it is an older revision."""
        key = WindowKey(metric.start, metric.width_s, metric.by, metric.group)
        series = self._series.setdefault((key.width_s, key.by, key.group), {})
        parts = series.setdefault(key.start, {})
        part = (metric.partition, metric.of)
        known = parts.get(part)
        if known is not None and known.revision > metric.revision:
            return None
        parts[part] = metric
        return key

    def get(self, key: WindowKey) -> Window | None:
        """The window, or None where no part of it is known."""
        parts = self._series.get((key.width_s, key.by, key.group), {}).get(key.start)
        return None if parts is None else window_of(key, parts.values())

    def series(
        self,
        width_s: int,
        by: By,
        group: str,
        *,
        since: int | None = None,
        until: int | None = None,
    ) -> list[Window]:
        """The group's windows that begin at or after `since` and before `until`, in order.

        Windows without a post are not in it: a gap is a zero.
        """
        series = self._series.get((width_s, by, group), {})
        return [
            window_of(WindowKey(start, width_s, by, group), series[start].values())
            for start in sorted(series)
            if (since is None or start >= since) and (until is None or start < until)
        ]

    def groups(self, width_s: int, by: By, *, start: int | None = None) -> list[str]:
        """The groups with a window of this width (beginning at `start`), sorted."""
        return sorted(
            group
            for (width, dimension, group), series in self._series.items()
            if width == width_s and dimension == by and (start is None or start in series)
        )

    def keys(self) -> Iterator[WindowKey]:
        """Every window that is known."""
        for (width_s, by, group), series in self._series.items():
            for start in series:
                yield WindowKey(start, width_s, by, group)  # type: ignore[arg-type] # a `Metric`'s

    def forget(self, before: int) -> None:
        """Drop the windows that ended at or before this second."""
        for (width_s, by, group), series in list(self._series.items()):
            for start in [start for start in series if start + width_s <= before]:
                del series[start]
            if not series:
                del self._series[width_s, by, group]
