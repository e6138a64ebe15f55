"""`tidegate policy backtest`: what another policy would have done about labels that are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import JsonOption, KafkaOption, since_moment
from stream.cli.output import count, print_json, print_table
from stream.cli.progress import share_progress
from stream.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from datetime import datetime

    from stream.decisions.backtest import Sample, Tally
    from stream.outcomes import Action
    from stream.policy import Policy
    from stream.settings import Settings


@dataclass(slots=True)
class _Input:
    """Where the labels come from, and how far that has been read."""

    values: Iterable[bytes]
    size: int
    read: Callable[[int], float]
    judged: dict[str, Action]


def backtest(
    *,
    policy: Annotated[
        Path,
        typer.Option("--policy", metavar="FILE|DIR", help="The policy to try.", show_default=False),
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="FILE|DIR",
            help="What it is compared with; default: the policy of the settings.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Labels of the topic from then on: 30min, 24h, 7d, or 2026-11-22T10:00:00Z.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels of a file: JSONL or JSONL.gz.",
            show_default=False,
        ),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option(
            "--reviews",
            metavar="FILE",
            help="What people decided: JSONL of review records; default: with --since the topic.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, max=5, help="Sample posts shown of each.")] = 2,
    processes: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that judge; 0: one for each core.")
    ] = 0,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge stored labels by another policy: what would match, what would change, was that right.

    No model runs. Windows count as they do live. Quotas do not trip: compare the matches with them.
    """
    from stream.decisions.parts import CHUNK, run_backtest
    from stream.decisions.stored import chunks_of
    from stream.kafka.closing import silence_clients
    from stream.policy import load_policy
    from stream.policy.load import policy_path
    from stream.settings import load_settings

    if (since is None) == (labels is None):
        raise ConfigError(
            "name either --since TIME or --labels FILE", hint="for instance --since 24h"
        )
    silence_clients()
    settings = load_settings({"kafka.bootstrap": kafka, "policy.path": against})
    old_path = policy_path(settings.policy.path)
    new, old = load_policy(policy), load_policy(old_path)
    after = since_moment(since)
    if after is not None:
        given = _from_topic(settings, after, reviews)
    else:
        assert labels is not None
        given = _from_file(labels, reviews)
    begun = time.monotonic()
    with share_progress("judging", given.size) as told:
        tally = run_backtest(
            chunks_of(given.values, CHUNK),
            policy,
            old_path,
            given.judged,
            processes=processes,
            done=lambda labels: told(given.read(labels), labels),
        )
    if labels is not None and tally.bad and not tally.labels + tally.retracted:
        raise SourceError(
            f"none of its {count(tally.bad)} records is a label",
            where=str(labels),
            hint="labels are what `tidegate label` and the topic `labels` have, one JSON object a line",
        )
    result = _result(tally, new, old, time.monotonic() - begun)
    if as_json:
        print_json(result)
    else:
        _print(result, samples)


def _from_file(labels: Path, reviews: Path | None) -> _Input:
    from stream.decisions.stored import RecordFile

    file = RecordFile(labels)
    return _Input(file.values(), file.size, lambda _: file.read, _judged(reviews))


def _from_topic(settings: Settings, after: datetime, reviews: Path | None) -> _Input:
    from stream.decisions.precision import standing_reviews
    from stream.decisions.stored import TopicValues, stored_reviews
    from stream.topics import LABELS

    values = TopicValues(settings.kafka, LABELS, round(after.timestamp() * 1000))
    if reviews is not None:
        judged = _judged(reviews)
    else:
        standing = standing_reviews(stored_reviews(settings.kafka))
        judged = {post: review.action for post, review in standing.items() if review.action}
    return _Input(values.values(), values.size, float, judged)


def _judged(reviews: Path | None) -> dict[str, Action]:
    """By post, what people decided, as a file has it."""
    from stream.decisions.precision import standing_reviews
    from stream.decisions.stored import RecordFile, reviews_in

    if reviews is None:
        return {}
    standing = standing_reviews(reviews_in(RecordFile(reviews).values()))
    return {post: review.action for post, review in standing.items() if review.action is not None}


# -- the result


def _result(tally: Tally, new: Policy, old: Policy, seconds: float) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "policy": new.version,
        "against": old.version,
        "labels": tally.labels,
        "retracted": tally.retracted,
        "bad": tally.bad,
        "judged": tally.judged,
        "seconds": round(seconds, 3),
        "labels_per_s": round(tally.labels / seconds, 1) if seconds else None,
        "strong": {"before": tally.strong_before, "after": tally.strong},
        "changed": sum(change.posts for change in tally.changes.values()),
        "changes": [
            {
                "before": name.partition(">")[0],
                "after": name.partition(">")[2],
                "posts": change.posts,
                "judged": change.judged,
                "samples": change.samples,
            }
            for name, change in sorted(tally.changes.items(), key=lambda item: -item[1].posts)
        ],
        "rules": _rules(tally, new, old),
    }


def _rules(tally: Tally, new: Policy, old: Policy) -> list[dict[str, Any]]:
    from stream.decisions.backtest import precision

    now = {rule.id: rule for rule in new.rules}
    before = {rule.id: rule for rule in old.rules}
    rows = []
    for name, rule in tally.rules.items():
        there = now.get(name)
        known = precision(rule.judged)
        rows.append(
            {
                "rule": name,
                "mode": there.mode if there else None,
                "mode_before": before[name].mode if name in before else None,
                "action": there.action if there else None,
                "quota": there.quota if there else None,
                "matches": rule.matches,
                "before": rule.before,
                "gained": rule.gained,
                "lost": rule.lost,
                "decisive": rule.decisive,
                "failed": rule.failed,
                "judged": rule.judged,
                "gained_judged": rule.gained_judged,
                "lost_judged": rule.lost_judged,
                "precision": None if known is None else round(known[0], 4),
                "precision_95": None if known is None else [round(known[1], 4), round(known[2], 4)],
                "samples": rule.samples,
                "lost_samples": rule.lost_samples,
            }
        )
    return rows


def _print(result: Mapping[str, Any], samples: int) -> None:
    rows = []
    for rule in result["rules"]:
        mode = rule["mode"] or "removed"
        if rule["mode_before"] not in (rule["mode"], None):
            mode = f"{rule['mode_before']} → {mode}"
        low_high = rule["precision_95"]
        rows.append(
            (
                rule["rule"],
                mode,
                str(rule["action"] or ""),
                count(rule["matches"]),
                f"+{rule['gained']:,} -{rule['lost']:,}",
                _judged_words(rule["judged"]),
                ""
                if low_high is None
                else f"{rule['precision']:.0%} ({low_high[0]:.0%}-{low_high[1]:.0%})",
            )
        )
    columns = [("rule", "left"), ("mode", "left"), ("action", "left"), ("would match", "right")]
    columns += [
        ("against before", "right"),
        ("people judged", "left"),
        ("precision (95 %)", "left"),
    ]
    print_table(columns, rows)  # type: ignore[arg-type] # "left" and "right" are literals
    typer.echo("")
    for change in result["changes"]:
        judged = _judged_words(change["judged"])
        words = f"; people had judged {judged}" if judged else ""
        typer.echo(f"{change['before']} → {change['after']}: {change['posts']:,} posts{words}")
        for sample in change["samples"][:samples]:
            typer.echo(f"    {_shown(sample)}")
    share = result["changed"] / result["labels"] if result["labels"] else 0.0
    typer.echo(
        f"{result['labels']:,} labels, {result['changed']:,} would be decided otherwise ({share:.2%}); "
        f"strong actions {result['strong']['before']:,} → {result['strong']['after']:,}"
    )
    for rule in result["rules"]:
        if rule["failed"]:
            typer.echo(f"{rule['rule']} could not be evaluated for {rule['failed']:,} of them")
    left_out = [f"{result[what]:,} {what}" for what in ("retracted", "bad") if result[what]]
    if left_out:
        typer.echo(f"left out: {', '.join(left_out)}")
    typer.echo(
        f"{result['against']} → {result['policy']}; {result['seconds']:.1f} s, "
        f"{result['labels_per_s'] or 0:,.0f} labels/s",
        err=True,
    )


def _judged_words(judged: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {action}" for action, number in sorted(judged.items()))


def _shown(sample: Sample) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in sample.text)
    return f"{sample.post_id}: {text}"
