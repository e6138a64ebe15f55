"""The counts over windows that rules ask for: `stream.policy.history.History`, kept in memory.

Invariant: a post counts once, when it was first posted, however often its label is read or it is
edited, and never after the longest window of the policy. Memory is bounded: past `MAX_ENTRIES` posts or `MAX_KEYS` keys the ones longest not
seen are forgotten, and a key counts at most its last `MAX_PER_KEY` posts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from stream.outcomes import Action
from stream.policy import Subject, Window
from stream.policy.history import KeyKind

#: Posts and keys kept, about 150 MB when both are reached (bench/backtest.py prints it).
MAX_ENTRIES: Final = 1_000_000
MAX_KEYS: Final = 200_000
#: A rule that counts to more than this would wait for a flood to be long over.
MAX_PER_KEY: Final = 20_000


class _Series:
    """One key's posts by time, with their authors."""

    __slots__ = ("authors", "last", "lasts", "times")

    def __init__(self, *, distinct: bool) -> None:
        self.times = array("q")
        self.authors = array("q")
        #: By author the time of their latest post, and these times in order.
        self.last: dict[int, int] | None = {} if distinct else None
        self.lasts: list[int] = []

    def add(self, at_ms: int, author: int) -> None:
        times = self.times
        if not times or at_ms >= times[-1]:
            times.append(at_ms)
            self.authors.append(author)
        else:
            place = bisect_right(times, at_ms)
            times.insert(place, at_ms)
            self.authors.insert(place, author)
        last = self.last
        if last is None or not author:
            return
        before = last.get(author)
        if before is not None:
            if before >= at_ms:
                return
            del self.lasts[bisect_right(self.lasts, before) - 1]
        last[author] = at_ms
        insort(self.lasts, at_ms)

    def count(self, after_ms: int, to_ms: int) -> int:
        return bisect_right(self.times, to_ms) - bisect_right(self.times, after_ms)

    def distinct(self, after_ms: int, to_ms: int) -> int:
        times = self.times
        if times and times[-1] > to_ms:  # a post out of order: the short way would count too many
            found = self.authors[bisect_right(times, after_ms) : bisect_right(times, to_ms)]
            return len({author for author in found if author})
        return len(self.lasts) - bisect_right(self.lasts, after_ms)

    def forget(self, until_ms: int) -> None:
        """Drop what is no longer in any window, and what is over the bound."""
        times = self.times
        gone = max(bisect_right(times, until_ms), len(times) - MAX_PER_KEY)
        if gone <= 0:
            return
        del times[:gone]
        del self.authors[:gone]
        last = self.last
        if last is not None:
            oldest = times[0] - 1 if times else until_ms
            over = bisect_right(self.lasts, oldest)
            del self.lasts[:over]
            if over:
                self.last = {author: at for author, at in last.items() if at > oldest}


class WindowHistory:
    """Counts of the posts it was given, for the windows of one policy.

    Args:
        windows: what the policy's rules ask for; posts are kept no longer than these need.
    """

    def __init__(self, windows: Iterable[Window]) -> None:
        self.windows = frozenset(windows)
        self._kinds: list[tuple[KeyKind, bool, int]] = []
        by_kind: dict[KeyKind, list[Window]] = {}
        for window in self.windows:
            if window.measure != "actions":
                by_kind.setdefault(window.kind, []).append(window)
        for kind, asked in sorted(by_kind.items()):
            distinct = any(window.measure == "distinct_authors" for window in asked)
            self._kinds.append((kind, distinct, max(w.seconds for w in asked) * 1000))
        self.actions_ms = 1000 * max(
            (w.seconds for w in self.windows if w.measure == "actions"), default=0
        )
        #: The longest windows: how far back a restart must read labels, and decisions.
        self.longest_ms = max((longest for _, _, longest in self._kinds), default=0)
        self._series: dict[KeyKind, OrderedDict[str, _Series]] = {
            kind: OrderedDict() for kind, _, _ in self._kinds
        }
        #: By partition the time of the post read last, and the earliest of these.
        self._clocks: dict[int, int] = {}
        self._slowest_ms = 0
        self._added = 0
        #: Posts that were counted, oldest first: an id's hash and its time.
        self._seen: OrderedDict[int, int] = OrderedDict()
        #: By author, posts that were flagged or worse.
        self._acted: OrderedDict[str, dict[int, int]] = OrderedDict()

    @property
    def wants_actions(self) -> bool:
        """Whether a rule asks for earlier actions against an author."""
        return self.actions_ms > 0

    def at(self, subject: Subject, partition: int = 0) -> HistoryAt:
        """Count the post, unless it is counted already, and look back from it.

        Args:
            subject: the post.
            partition: where its label lies. While a backlog is read partitions are hours apart, and
                what one of them still needs must not be forgotten for another's sake.
        """
        post = hash(subject.post_id)
        if self._kinds:
            at_ms = subject.at_ms
            if (seen_ms := self._seen.get(post)) is not None:
                # Read again, or edited: looking back from before it was posted would miss it.
                at_ms = max(at_ms, seen_ms)
            elif not subject.is_edit:
                self._seen[post] = at_ms
                self._clocks[partition] = at_ms
                self._added += 1
                if self._added % 64 == 0:
                    self._slowest_ms = min(self._clocks.values())
                self._add(subject, at_ms)
                self._forget_posts()
            return HistoryAt(self, at_ms, post)
        return HistoryAt(self, subject.at_ms, post)

    def acted(self, post_id: str, author: str | None, at_ms: int, action: Action) -> None:
        """Note what became of a post; a decision that changed replaces the one before."""
        if not self.actions_ms or author is None:
            return
        post = hash(post_id)
        posts = self._acted.get(author)
        if action is Action.ALLOW:
            if posts is not None and posts.pop(post, None) is not None and not posts:
                del self._acted[author]
            return
        if posts is None:
            posts = self._acted[author] = {}
            if len(self._acted) > MAX_KEYS:
                self._acted.popitem(last=False)
        else:
            self._acted.move_to_end(author)
        posts[post] = at_ms
        if len(posts) > MAX_PER_KEY:
            del posts[next(iter(posts))]

    # -- for HistoryAt

    def series(self, kind: KeyKind, key: str) -> _Series | None:
        """The posts under a key."""
        series = self._series.get(kind)
        return None if series is None else series.get(key)

    def actions_of(self, author: str, after_ms: int, to_ms: int, but: int) -> int:
        """Posts of the author that were acted on, without one."""
        posts = self._acted.get(author)
        if not posts:
            return 0
        return sum(after_ms < at <= to_ms and post != but for post, at in posts.items())

    def _add(self, subject: Subject, at_ms: int) -> None:
        author = hash(subject.author_id) or 1 if subject.author_id else 0
        for kind, distinct, longest_ms in self._kinds:
            all_of_kind = self._series[kind]
            for key in subject.keys(kind):
                series = all_of_kind.get(key)
                if series is None:
                    series = all_of_kind[key] = _Series(distinct=distinct)
                    if len(all_of_kind) > MAX_KEYS:
                        all_of_kind.popitem(last=False)
                else:
                    all_of_kind.move_to_end(key)
                series.add(at_ms, author)
                times = series.times
                until_ms = self._slowest_ms - longest_ms
                if len(times) > MAX_PER_KEY + 256 or (
                    len(times) % 64 == 0 and times[0] <= until_ms
                ):
                    series.forget(until_ms)

    def release(self, partition: int) -> None:
        """A partition went to another worker: nothing is kept for its sake any more."""
        self._clocks.pop(partition, None)

    def _forget_posts(self) -> None:
        seen = self._seen
        until_ms = self._slowest_ms - 2 * self.longest_ms
        for _ in range(2):
            oldest = next(iter(seen))
            if seen[oldest] > until_ms and len(seen) <= MAX_ENTRIES:
                break
            del seen[oldest]
        for series in self._series.values():
            # The key longest not seen: two a post keep up with what comes in.
            for _ in range(2):
                if not series:
                    break
                key = next(iter(series))
                if series[key].times and series[key].times[-1] > until_ms:
                    break
                del series[key]


class HistoryAt:
    """The history as one post sees it: `stream.policy.History`."""

    __slots__ = ("_at_ms", "_history", "_post")

    def __init__(self, history: WindowHistory, at_ms: int, post: int) -> None:
        self._history = history
        self._at_ms = at_ms
        self._post = post

    def count(self, kind: KeyKind, key: str, window_s: int) -> int:
        """Posts with this key up to the post, and with it."""
        series = self._history.series(kind, key)
        if series is None:
            return 1
        return max(1, series.count(self._at_ms - window_s * 1000, self._at_ms))

    def distinct_authors(self, kind: KeyKind, key: str, window_s: int) -> int:
        """Their different authors."""
        series = self._history.series(kind, key)
        if series is None:
            return 1
        return max(1, series.distinct(self._at_ms - window_s * 1000, self._at_ms))

    def actions(self, author: str, window_s: int) -> int:
        """Earlier posts of the author that were flagged or worse."""
        return self._history.actions_of(
            author, self._at_ms - window_s * 1000, self._at_ms, self._post
        )
