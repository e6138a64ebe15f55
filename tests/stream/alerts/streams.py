"""Made-up metrics for the tests of alerts: windows of 10 s, in parts as several workers write them.

And what an evaluator says of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

from stream.aggregates.sketches import new_authors
from stream.alerts.evaluator import Evaluator
from stream.alerts.history import moment
from stream.alerts.load import parse_rules
from stream.alerts.rules import RuleSet
from stream.outcomes import METRIC_SCHEMA, Alert, Metric

#: The beginning of an hour.
BEGIN = 1_800_000_000


def metric(start: int, posts: int, group: str = "all", **values: Any) -> Metric:
    """One metric; `authors` is a number or names, `by` follows from the group."""
    authors = values.pop("authors", posts)
    names = (
        authors
        if not isinstance(authors, int)
        else (f"{start}/{values.get('partition', 0)}/{n}" for n in range(authors))
    )
    by = values.pop("by", "all" if group == "all" else "tag")
    defaults: dict[str, Any] = {
        "width_s": 10,
        "partition": 0,
        "revision": 1,
        "neutral": posts,
        "authors": sketch(names),
    }
    return Metric(
        schema=METRIC_SCHEMA, start=start, by=by, group=group, posts=posts, **(defaults | values)
    )


def sketch(names: Iterable[str]) -> bytes:
    """The serialised sketch of these authors."""
    authors = new_authors()
    for name in names:
        authors.update(name)
    return bytes(authors.serialize_compact())


def waves(
    seed: int, *, windows: int, groups: int, begin: int = BEGIN, partitions: int = 2
) -> Iterator[Metric]:
    """Tags that are calm, and now and then, each at its own times, mostly toxic.

    Windows come in parts and revisions, some of them late; the last ones are calm.
    """
    dice = random.Random(seed)
    until = dict.fromkeys(range(groups), 0)
    late: list[Metric] = []
    for window in range(windows):
        now: list[Metric] = []
        for group in range(groups):
            if window > until[group] + 6 and window < windows - 15 and dice.random() < 0.12:
                until[group] = window + dice.randint(2, 6)
            wave = window < until[group]
            for partition in range(partitions):
                posts = dice.randint(15, 25) if wave else dice.randint(3, 8)
                toxic = round(posts * (dice.uniform(0.4, 0.7) if wave else dice.uniform(0, 0.1)))
                for revision in (1, 2):
                    share = revision / 2
                    now.append(
                        metric(
                            begin + 10 * window,
                            round(posts * share),
                            f"tag{group}",
                            toxic=round(toxic * share),
                            partition=partition,
                            revision=revision + 10 * window,
                        )
                    )
        dice.shuffle(now)
        yield from late
        late = [each for each in now if dice.random() < 0.05]
        yield from (each for each in now if each not in late)
    yield from late


def rules_of(text: str) -> RuleSet:
    """The rules in this text."""
    return parse_rules(text, "alerts.yaml")


def run(rules: RuleSet | str, metrics: Iterable[Metric], until: float | None = None) -> list[Alert]:
    """What an evaluator that was just made says of these metrics, up to a time."""
    evaluator = Evaluator(rules_of(rules) if isinstance(rules, str) else rules)
    return follow(evaluator, metrics, until)


def follow(evaluator: Evaluator, metrics: Iterable[Metric], until: float | None) -> list[Alert]:
    """What an evaluator says of these metrics, up to a time."""
    outcomes = [outcome for each in metrics for outcome in evaluator.add(each)]
    if until is not None:
        outcomes += evaluator.advance(until)
    return [outcome.alert for outcome in outcomes]


def story(alerts: Iterable[Alert]) -> list[tuple[str, str, int]]:
    """Rule, state and tick, in seconds since the beginning."""
    return [(alert.rule, alert.state, moment(alert.at) - BEGIN) for alert in alerts]
