"""Labels and decisions as tests make them, and a recount of them that keeps everything."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from stream.aggregates.book import Book, Bounds, Change, Checkpoint
from stream.aggregates.facts import READERS, Of, UnreadableRecordError
from stream.aggregates.merge import WIDTHS_S, Window, WindowKey, Windows
from stream.outcomes import DECISION_SCHEMA, Action, Decision
from stream.records import LABEL_SCHEMA, Label, ModelRef, Origin, Post, TaskLabel, encode, rfc3339

#: A full hour, so that windows of every width begin here.
HOUR = 1_780_002_000
MODELS = {"sentiment": ModelRef(id="m", version="1")}
NEVER = Bounds(correctable_s=10**9, correctable_posts=10**9)
Record = tuple[int, bytes]


def label(
    post_id: str,
    place: int,
    *,
    at_s: float = 0,
    sentiment: str = "neutral",
    toxicity: str = "none",
    language: str = "en",
    source: str | None = "forum",
    author: str | None = "sam",
    text: str = "",
    tags: Sequence[str] = (),
    op: str = "create",
    unsupported: bool = False,
    labelled_at_s: float | None = None,
) -> bytes:
    """A label; `place` is its post's offset, `at_s` counts from `HOUR`."""
    ms = round((HOUR + at_s) * 1000)
    retracted = op == "delete"
    return encode(
        Label(
            schema=LABEL_SCHEMA,
            label_id=f"{post_id}@{place}",
            post_id=post_id,
            labels={}
            if retracted
            else {
                "language": TaskLabel(label=language, score=0.9),
                "sentiment": TaskLabel(label=sentiment, score=0.9, unsupported=unsupported),
                "toxicity": TaskLabel(label=toxicity, score=0.9),
            },
            models=MODELS,
            labelled_at=rfc3339(
                ms + 50 if labelled_at_s is None else round((HOUR + labelled_at_s) * 1000)
            ),
            posted_at=rfc3339(ms),
            origin=Origin(topic="posts", partition=0, offset=place, timestamp_ms=ms),
            post=Post(
                id=post_id,
                text=None if retracted else text,
                op=op,  # type: ignore[arg-type] # one of the three
                source=source,
                author=author,
                tags=list(tags),
            ),
            retracted=retracted,
        )
    )


def decision(
    post_id: str,
    place: int,
    action: str,
    *,
    at_s: float = 0,
    after_s: float = 0.1,
    by: str = "policy",
    **values: Any,
) -> bytes:
    """A decision made `after_s` after its post."""
    ms = round((HOUR + at_s) * 1000)
    defaults: dict[str, Any] = {
        "schema": DECISION_SCHEMA,
        "decision_id": f"{post_id}@{place}",
        "post_id": post_id,
        "action": Action(action),
        "decided_at": rfc3339(ms + round(after_s * 1000)),
        "by": by,
        "labels": {"language": "en", "sentiment": "negative", "toxicity": "insult"},
        "language": "en",
        "posted_at": rfc3339(ms),
        "origin": Origin(topic="posts", partition=0, offset=place, timestamp_ms=ms),
        "post": Post(id=post_id, text="", source="forum", author="sam"),
    }
    return encode(Decision(**{**defaults, **values}))


def numbered(values: Iterable[bytes], first: int = 0) -> list[Record]:
    """The values as records of a partition."""
    return list(enumerate(values, first))


def random_labels(
    seed: int, count: int, *, posts: int = 40, spread_s: int = 4000, prefix: str = "p"
) -> list[bytes]:
    """Labels of creates, updates and deletes of a few posts."""
    chance = random.Random(seed)
    return [
        label(
            f"{prefix}{chance.randrange(posts)}",
            place,
            at_s=chance.randrange(spread_s),
            sentiment=chance.choice(["positive", "neutral", "negative"]),
            toxicity=chance.choice(["none", "none", "insult", "threat"]),
            language=chance.choice(["en", "de", "ja"]),
            source=chance.choice(["forum", "blog", None]),
            author=chance.choice(["a", "b", "c", None]),
            text=chance.choice(["tide gate", "tide", "harbour #flood", ""]),
            tags=chance.sample(["x", "y", "z"], chance.randrange(3)),
            op=chance.choice(["create", "create", "update", "delete"]),
            unsupported=chance.random() < 0.2,
        )
        for place in range(count)
    ]


Counts = dict[WindowKey, tuple[Any, ...]]


def recount(records: Iterable[Record], of: Of = "labels") -> Counts:
    """The counts of every window, from each post's latest record and nothing else."""
    latest: dict[str, Any] = {}
    for offset, value in records:
        try:
            facts = READERS[of](value, offset)
        except UnreadableRecordError:
            continue
        known = latest.get(facts.post_id)
        if known is None or facts.contribution.version > known.version:
            latest[facts.post_id] = facts.contribution
    counters: dict[WindowKey, Counter[str]] = {}
    for c in latest.values():
        for by, group in (*c.groups, *c.tags):
            for width_s in WIDTHS_S:
                key = WindowKey(c.start - c.start % width_s, width_s, by, group)
                counter = counters.setdefault(key, Counter())
                if of == "decisions" and by != "action":
                    counter[c.action] += 1
                    continue
                counter["posts"] += 1
                counter[("", "positive", "neutral", "negative")[c.mark & 3]] += 1
                counter["toxic"] += bool(c.mark & 4)
                counter["unsupported"] += bool(c.mark & 8)
    return {
        key: (
            *(counter[n] for n in ("posts", "positive", "neutral", "negative", "toxic")),
            counter["unsupported"],
            {action.value: counter[action] for action in Action if counter[action]},
        )
        for key, counter in counters.items()
    }


def counts_of(window: Window) -> tuple[Any, ...]:
    """What `recount` says of a window."""
    w = window
    return (
        w.posts, w.positive, w.neutral, w.negative, w.toxic, w.unsupported, dict(w.actions),
    )  # fmt: skip


def counted(windows: Windows) -> Counts:
    """What readers see, less the windows that nothing is left of."""
    found = {}
    for key in windows.keys():  # noqa: SIM118 - not a dict
        window = windows.get(key)
        assert window is not None
        counts = counts_of(window)
        if any(counts):
            found[key] = counts
    return found


class Broker:
    """What survives a kill: the changelog, compacted, and the metrics.

    `fail_after` writes the broker is gone, and so is the worker.
    """

    def __init__(self) -> None:
        self.changelog: dict[bytes, bytes] = {}
        self.windows = Windows()
        self.committed = 0
        self.writes = 0
        self.fail_after: int | None = None

    def _write(self) -> None:
        if self.fail_after is not None and self.writes >= self.fail_after:
            raise ConnectionError
        self.writes += 1

    def _change(self, change: Change) -> None:
        self._write()
        if change.value is None:
            self.changelog.pop(change.key, None)
        else:
            self.changelog[change.key] = change.value

    def take(self, book: Book, checkpoint: Checkpoint) -> None:
        """Write a checkpoint as the agent does."""
        for change in checkpoint.cells:
            self._change(change)
        for metric in checkpoint.metrics:
            self._write()
            self.windows.add(metric)
        for change in checkpoint.markers:
            self._change(change)
        self._write()
        self.committed = book.next_offset

    def recovered(self, bounds: Bounds = NEVER, of: Of = "labels") -> Book:
        """A book of a new worker."""
        book = Book(of, 0, bounds)
        for key, value in self.changelog.items():
            book.restore(key, value)
        book.restored()
        return book
