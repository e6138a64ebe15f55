"""What the demo says at its end."""

from __future__ import annotations

import msgspec

from stream.demo.account import percentiles_ms
from stream.demo.hook import HookResult
from stream.demo.watcher import Watcher
from stream.records import ModelRef


class BrokerUsed(msgspec.Struct, kw_only=True):
    """Which broker it was: `embedded` or `given`."""

    kind: str
    bootstrap: str


class DemoResult(msgspec.Struct, kw_only=True):
    """The account: every line that is not blank is in `posts_in`.

    `posts_per_s` is from the first post sent to the last answer; `latency_ms` from a post being
    sent to its label being read from the topic. `hook` is what the demo's webhook received.
    """

    posts_in: int
    labelled: int
    dead_lettered: int
    duplicates: int
    blank: int
    seconds: float
    posts_per_s: float
    latency_ms: dict[str, float] | None
    first_label_s: float | None
    models: dict[str, ModelRef]
    broker: BrokerUsed
    worker_restarts: int
    interrupted: bool
    hook: HookResult | None = None

    @property
    def adds_up(self) -> bool:
        """Whether every line has its answer."""
        return self.labelled + self.dead_lettered == self.posts_in


def result_of(
    watcher: Watcher,
    *,
    lines: int,
    blank: int,
    broker: BrokerUsed,
    started_s: float,
    worker_restarts: int,
    interrupted: bool,
    hook: HookResult | None = None,
) -> DemoResult:
    """The result, from what the watcher saw and `lines`, the lines read once all are sent."""
    account, first_s = watcher.account, watcher.first_answer_s
    seconds = 0.0
    if watcher.first_sent_s is not None and watcher.last_answer_s is not None:
        seconds = watcher.last_answer_s - watcher.first_sent_s
    return DemoResult(
        # A line that was read and not posted would otherwise go unnoticed.
        posts_in=max(account.posted, lines),
        labelled=account.labelled,
        dead_lettered=account.dead_lettered,
        duplicates=account.duplicates,
        blank=blank,
        seconds=round(seconds, 3),
        posts_per_s=round(account.answered / seconds, 1) if seconds else 0.0,
        latency_ms=percentiles_ms(watcher.latencies_s),
        first_label_s=None if first_s is None else round(first_s - started_s, 3),
        models=watcher.models,
        broker=broker,
        worker_restarts=worker_restarts,
        interrupted=interrupted,
        hook=hook,
    )
