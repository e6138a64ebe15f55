"""A draft tried on the labels that the read model still holds: bounded, with progress.

Invariant: the labels are judged in the order of their posts by the evaluator of the role `decide`,
as `tidegate policy backtest` does over the topic; nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from dashboard.database import Database
from stream.decisions.backtest import Backtest, Tally, precision
from stream.outcomes import Action
from stream.policy import Policy
from stream.records import decode_label

#: At most so many of the newest labels, and no longer than this: a page is waiting.
MOST_LABELS: Final = 20_000
MOST_S: Final = 20.0
_REPORT_EVERY: Final = 250


class Outcome(NamedTuple):
    """What a backtest found; `asked` is how many labels there were, `tally.labels` how many judged."""

    tally: Tally
    asked: int
    seconds: float
    cut: bool


def backtest(
    db: Database, new: Policy, old: Policy, progress: Callable[[float, str], None]
) -> Outcome:
    """Judge the newest labels by both policies."""
    begun = time.monotonic()
    records = db.execute(
        "SELECT record FROM posts JOIN records USING (id) WHERE retracted = 0"
        " ORDER BY posted_ms DESC LIMIT ?",
        (MOST_LABELS,),
    ).fetchall()
    judged = {
        post: Action(action)
        for post, action in db.execute(
            "SELECT post_id, action FROM decisions WHERE judged = 1 AND retracted = 0"
        )
    }
    run = Backtest(new, old, judged)
    cut = False
    for n, (record,) in enumerate(reversed(records)):
        run.take(decode_label(record))
        if n % _REPORT_EVERY == 0:
            progress(n / len(records), f"{n:,} of {len(records):,} labels")
            if time.monotonic() - begun > MOST_S:
                cut = True
                break
    return Outcome(run.tally, len(records), time.monotonic() - begun, cut)


def rule_lines(outcome: Outcome, new: Policy, old: Policy) -> list[dict[str, str | int]]:
    """A row for each rule that matches anything, the most changed first."""
    modes = {rule.id: rule.mode for rule in new.rules}
    before = {rule.id: rule.mode for rule in old.rules}
    rows: list[dict[str, str | int]] = []
    for name, tally in outcome.tally.rules.items():
        if not (tally.matches or tally.before):
            continue
        known = precision(tally.judged)
        mode = modes.get(name, "removed")
        rows.append(
            {
                "Rule": name,
                "Mode": mode if before.get(name, mode) == mode else f"{before[name]} → {mode}",
                "Before": tally.before,
                "Would match": tally.matches,
                "Gained": tally.gained,
                "Lost": tally.lost,
                "Judged": sum(tally.judged.values()),
                "Gained, judged fine": tally.gained_judged.get(Action.ALLOW, 0),
                "Precision": ""
                if known is None
                else f"{known[0]:.0%} ({known[1]:.0%} to {known[2]:.0%})",
            }
        )
    return sorted(rows, key=lambda row: (-int(row["Gained"]) - int(row["Lost"]), str(row["Rule"])))
