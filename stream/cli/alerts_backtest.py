"""`tidegate alerts backtest`: which alerts there would have been."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer

from stream.cli.options import JsonOption, KafkaOption, since_moment
from stream.cli.output import age, count, print_json, print_table
from stream.cli.progress import share_progress
from stream.errors import ConfigError, SourceError
from stream.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from stream.alerts.backtest import Backtest, Episode
    from stream.alerts.rules import RuleSet
    from stream.decisions.stored import RecordFile
    from stream.kafka.scan import Scanned
    from stream.outcomes import Metric

RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="Alert rules; default: setting `alerts.path`, `config/alerts.yaml`, the starter pack.",
        show_default=False,
    ),
]
#: Listed by name in the table; the JSON has all.
_SHOWN_EPISODES = 40
#: Of less than an hour no figure a day is shown.
_LEAST_DAYS = 1 / 24


def rules_of(path: Path | None) -> tuple[Path, RuleSet]:
    """The rules in force and the file they are in; `path` is what a flag says."""
    from stream.alerts.load import load_rules, rules_path

    chosen = rules_path(load_settings({"alerts.path": path}).alerts.path)
    return chosen, load_rules(chosen)


def backtest(
    *,
    rules: RulesOption = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            "--metrics",
            metavar="FILE",
            help="Records of `metrics`, one a line, plain or gzip.",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Records of `labels`, one a line, plain or gzip; they are counted first.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="The topic `metrics` from then on: 24h, 7d, or a time.",
            show_default=False,
        ),
    ] = None,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the rules over stored metrics: which episodes there would have been, and how often."""
    from stream.alerts.backtest import Backtest, metrics_of_labels
    from stream.decisions.stored import RecordFile

    if sum(source is not None for source in (metrics, labels, since)) != 1:
        raise ConfigError(
            "one of `--metrics`, `--labels` and `--since` says what to run over",
            hint="`--since 24h` reads the topic `metrics`",
        )
    path, loaded = rules_of(rules)
    run = Backtest(loaded)
    begun = time.monotonic()
    after = since_moment(since)
    if after is not None:
        settings = load_settings({"kafka.bootstrap": kafka}).kafka
        found = _metrics_since(settings, after.timestamp())
    else:
        lines = _lines(RecordFile(cast("Path", metrics or labels)))
        found = _decoded(lines) if metrics is not None else metrics_of_labels(lines)
    for metric in found:
        run.add(metric)
    run.finish()
    if not run.metrics and (file := metrics or labels) is not None and file.stat().st_size:
        what = "metric" if metrics is not None else "label"
        raise SourceError(
            f"no {what} in it can be counted",
            where=str(file),
            hint="one JSON object a line, as the topics `metrics` and `labels` have them",
        )
    elapsed_s = time.monotonic() - begun
    if as_json:
        print_json(
            {
                "rules_file": str(path),
                "metrics": run.metrics,
                "days": round(run.days, 4),
                "elapsed_s": round(elapsed_s, 2),
                "rules": run.results(),
                "episodes": run.episodes(),
                "skipped": run.skipped,
            }
        )
        return
    _print_backtest(run, elapsed_s)


def _print_backtest(run: Backtest, elapsed_s: float) -> None:
    print_table(
        [
            ("rule", "left"),
            ("fired", "right"),
            ("a day", "right"),
            ("groups", "right"),
            ("longest", "right"),
            ("still on", "right"),
        ],
        [
            (
                r.rule,
                count(r.fired),
                # Of minutes, it would be a guess.
                f"{r.per_day:,.10g}" if run.days >= _LEAST_DAYS else "",
                count(r.groups),
                age(r.longest_s) if r.fired else "",
                count(r.open) if r.open else "",
            )
            for r in run.results()
        ],
    )
    episodes = run.episodes()
    if episodes:
        typer.echo()
        print_table(
            [("fired", "left"), ("lasted", "right"), ("severity", "left"), ("alert", "left")],
            [_row(episode) for episode in episodes[-_SHOWN_EPISODES:]],
        )
    if len(episodes) > _SHOWN_EPISODES:
        typer.echo(
            f"the last {_SHOWN_EPISODES} of {count(len(episodes))}: --json has all", err=True
        )
    if run.skipped:
        typer.echo(
            f"not looked at: {', '.join(run.skipped)} (off, or about the pipeline)", err=True
        )
    typer.echo(
        f"{count(run.metrics)} metrics of {run.days:.2f} days in {elapsed_s:.1f} s", err=True
    )


def _row(episode: Episode) -> tuple[str, str, str, str]:
    lasted = age(episode.lasted_s) + ("" if episode.resolved_at else " +")
    return episode.fired_at[:19] + "Z", lasted, episode.severity, episode.summary


def _metrics_since(kafka: KafkaSettings, since_s: float) -> Iterator[Metric]:
    from stream.kafka.preflight import check_broker
    from stream.kafka.scan import open_scanner
    from stream.topics import METRICS

    check_broker(kafka)
    topic = METRICS.full_name(kafka.topic_prefix)
    with open_scanner(kafka) as scanner:
        there = scanner.ranges(topic)[topic]
        total = sum(each.end - each.first for each in there.values())
        with share_progress("metrics", total) as done:
            values = _values_since(scanner.read(topic, there), since_s, done)
            yield from (metric for metric in _decoded(values) if metric.start >= since_s)


def _values_since(
    records: Iterable[Scanned], since_s: float, done: Callable[..., None]
) -> Iterator[bytes]:
    for number, record in enumerate(records, 1):
        done(number)
        # A metric is written after its window began.
        if record.timestamp_ms >= since_s * 1000:
            yield record.value or b""


def _decoded(values: Iterable[bytes]) -> Iterator[Metric]:
    from stream.outcomes import decode_metric

    bad = 0
    for value in values:
        try:
            yield decode_metric(value)
        except (msgspec.DecodeError, RecursionError):
            bad += 1
    if bad:
        words = "record is no metric and was" if bad == 1 else "records are no metrics and were"
        typer.echo(f"{count(bad)} {words} left out", err=True)


def _lines(file: RecordFile) -> Iterator[bytes]:
    """The lines of a file that are not empty, with a progress bar along its bytes."""
    with share_progress(file.path.name, file.size) as done:
        for number, line in enumerate(file.values(), 1):
            yield line
            done(file.read, number)
