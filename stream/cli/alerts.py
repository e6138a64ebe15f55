"""`tidegate alerts`: what is going on, are the rules right, how often would they have fired."""

from __future__ import annotations

import contextlib
import gzip
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal, cast

import msgspec
import typer

from stream.cli.options import JsonOption, KafkaOption, SinceOption, since_moment
from stream.cli.output import age, count, print_json, print_table
from stream.errors import ConfigError, SourceError
from stream.settings import KafkaSettings, load_settings
from stream.times import moment_or_never, timestamp_ms

if TYPE_CHECKING:
    from stream.alerts.backtest import Backtest, Episode
    from stream.alerts.rules import Rule, RuleSet
    from stream.outcomes import Alert, Metric

app = typer.Typer(
    name="alerts", help="List alerts; check, test and try their rules.", no_args_is_help=True
)

State = Literal["firing", "resolved"]
Severity = Literal["info", "low", "medium", "high", "critical"]
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
_TICK_S = 0.1


def _rules(path: Path | None) -> tuple[Path, RuleSet]:
    from stream.alerts.load import load_rules, rules_path

    chosen = rules_path(load_settings({"alerts.path": path}).alerts.path)
    return chosen, load_rules(chosen)


@app.command("list")
def list_alerts(
    *,
    state: Annotated[
        State | None, typer.Option("--state", help="firing or resolved.", show_default=False)
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule", metavar="ID", help="Only of this rule; again for several.", show_default=False
        ),
    ] = None,
    severity: Annotated[
        Severity | None,
        typer.Option("--severity", help="Only from this severity up.", show_default=False),
    ] = None,
    since: SinceOption = None,
    tests: Annotated[bool, typer.Option("--tests", help="Also alerts sent as a test.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List alerts, those that are firing and those that were, the newest first."""
    from stream.alerts.rules import SEVERITIES

    settings = load_settings({"kafka.bootstrap": kafka}).kafka
    after = since_moment(since)
    least = 0 if severity is None else SEVERITIES.index(severity)
    newest: dict[str, Alert] = {}
    first: dict[str, Alert] = {}
    for alert in _published(settings):
        newest[alert.alert_id] = alert
        first.setdefault(alert.alert_id, alert)
    found = [
        alert
        for alert in newest.values()
        if (tests or not alert.test)
        and state in (None, alert.state)
        and (not rule or alert.rule in rule)
        and SEVERITIES.index(alert.severity) >= least
        and (after is None or moment_or_never(alert.at) >= after)
    ]
    found.sort(key=lambda alert: (alert.at, alert.alert_id), reverse=True)
    found = found[:limit]
    if as_json:
        # What it is about stands in the record with which it fired.
        shown = [
            msgspec.to_builtins(first[alert.alert_id])
            | {"state": alert.state, "at": alert.at, "resolved_at": alert.resolved_at}
            | ({"resolved": alert.summary} if alert.state == "resolved" else {})
            for alert in found
        ]
        print_json({"alerts": shown})
        return
    print_table(
        [
            ("state", "left"),
            ("since", "left"),
            ("lasted", "right"),
            ("severity", "left"),
            ("rule", "left"),
            ("alert", "left"),
        ],
        [
            (
                alert.state + (" (test)" if alert.test else ""),
                alert.started_at[:19] + "Z",
                _lasted(alert),
                alert.severity,
                alert.rule,
                first[alert.alert_id].summary,
            )
            for alert in found
        ],
    )
    if not found:
        typer.echo("no alerts", err=True)


def _lasted(alert: Alert) -> str:
    until = time.time() if alert.resolved_at is None else _seconds(alert.resolved_at)
    return age(max(0, round(until - _seconds(alert.started_at))))


def _seconds(at: str) -> float:
    return timestamp_ms(at) / 1000


def _published(kafka: KafkaSettings) -> Iterator[Alert]:
    from stream.kafka.preflight import check_broker
    from stream.kafka.scan import scan
    from stream.outcomes import decode_alert
    from stream.topics import ALERTS

    check_broker(kafka)
    for record in scan(kafka, ALERTS.full_name(kafka.topic_prefix)):
        with contextlib.suppress(msgspec.DecodeError):
            yield decode_alert(record.value or b"")


@app.command("test")
def check_rules(
    *,
    rules: RulesOption = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="ID", help="Only this rule.", show_default=False)
    ] = None,
    fire: Annotated[
        bool,
        typer.Option(
            "--fire",
            help="Send an alert of the rule, marked as a test, through the pipeline to the hooks: "
            "it fires and resolves.",
        ),
    ] = False,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the rules and run the tests that stand beside them; exit code 1 if one fails."""
    from stream.alerts.file_tests import run_test

    path, loaded = _rules(rules)
    ids = [each.id for each in loaded.rules]
    if rule is not None and rule not in ids:
        from stream.policy.diagnostics import suggestion

        raise ConfigError(
            f"there is no rule `{rule}`", where=str(path), hint=suggestion(rule, ids, "rules")
        )
    if fire:
        chosen = next((r for r in loaded.rules if rule in (None, r.id)), None)
        if chosen is None:
            raise ConfigError("there is no rule to fire", where=str(path))
        _fire(load_settings({"kafka.bootstrap": kafka}).kafka, chosen, as_json=as_json)
        return
    outcomes = [run_test(loaded, test) for test in loaded.tests if rule in (None, test.rule)]
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    if as_json:
        print_json(
            {
                "ok": not failed,
                "file": str(path),
                "rules": [
                    {"id": r.id, "kind": r.kind, "severity": r.severity, "on": r.on}
                    for r in loaded.rules
                ],
                "tests": [
                    {
                        "name": outcome.test.name,
                        "rule": outcome.test.rule,
                        "where": outcome.test.where,
                        "fired": outcome.fired,
                        "resolved": outcome.resolved,
                        "problem": outcome.problem,
                    }
                    for outcome in outcomes
                ],
            }
        )
    else:
        print_table(
            [("", "left"), ("rule", "left"), ("test", "left"), ("", "left")],
            [
                (
                    "ok" if outcome.problem is None else "FAILED",
                    outcome.test.rule,
                    outcome.test.name,
                    "" if outcome.problem is None else f"{outcome.test.where}: {outcome.problem}",
                )
                for outcome in outcomes
            ],
        )
        typer.echo(
            f"\n{path}: {len(loaded.rules)} rules, {len(outcomes)} tests, {len(failed)} failed"
        )
    if failed:
        raise typer.Exit(1)


def _fire(kafka: KafkaSettings, rule: Rule, *, as_json: bool) -> None:
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    from stream.alerts.trial import trial_alerts
    from stream.errors import DeliveryError
    from stream.kafka.client import kafka_python_config, reason_of
    from stream.kafka.preflight import check_broker
    from stream.records import encode
    from stream.topics import ALERTS

    check_broker(kafka)
    alerts = trial_alerts(rule, int(time.time()))
    try:
        producer = KafkaProducer(**kafka_python_config(kafka), acks="all", max_block_ms=15_000)
        with contextlib.closing(producer):
            for alert in alerts:
                producer.send(
                    ALERTS.full_name(kafka.topic_prefix),
                    value=encode(alert),
                    key=alert.alert_id.encode(),
                    partition=0,
                ).get(kafka.request_timeout_s)
    except KafkaError as exc:
        raise DeliveryError(
            f"the broker did not confirm the test: {reason_of(exc)}",
            hint="`tidegate topics create` makes the topics",
        ) from exc
    if as_json:
        print_json({"sent": alerts})
        return
    typer.echo(f"sent {alerts[0].alert_id}: fired and resolved, marked as a test")
    typer.echo("`tidegate hooks log` shows what became of it", err=True)


@app.command("backtest")
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

    if sum(source is not None for source in (metrics, labels, since)) != 1:
        raise ConfigError(
            "one of `--metrics`, `--labels` and `--since` says what to run over",
            hint="`--since 24h` reads the topic `metrics`",
        )
    path, loaded = _rules(rules)
    run = Backtest(loaded)
    begun = time.monotonic()
    after = since_moment(since)
    if after is not None:
        settings = load_settings({"kafka.bootstrap": kafka}).kafka
        found = _metrics_since(settings, after.timestamp())
    else:
        lines = _lines(cast("Path", metrics or labels))
        found = _decoded(lines) if metrics is not None else metrics_of_labels(lines)
    for metric in found:
        run.add(metric)
    run.finish()
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
                f"{r.per_day:g}",
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
        with _progress(sum(each.end - each.first for each in there.values()), "metrics") as done:
            for number, record in enumerate(scanner.read(topic, there), 1):
                done(number)
                # A metric is written after its window began.
                if record.timestamp_ms >= since_s * 1000:
                    yield from (m for m in _decoded([record.value or b""]) if m.start >= since_s)


def _decoded(values: Iterable[bytes]) -> Iterator[Metric]:
    from stream.outcomes import decode_metric

    bad = 0
    for value in values:
        try:
            yield decode_metric(value)
        except (msgspec.DecodeError, RecursionError):
            bad += 1
    if bad:
        typer.echo(f"{count(bad)} records are no metrics and were left out", err=True)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that are not empty, with a progress bar along its bytes."""
    try:
        size = path.stat().st_size
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            done = stack.enter_context(_progress(size, path.name))
            lines: Iterable[bytes] = raw
            if path.suffix == ".gz":
                lines = cast("IO[bytes]", stack.enter_context(gzip.open(raw)))
            for line in lines:
                if line.strip():
                    yield line
                done(raw.tell())
    except OSError as exc:
        raise SourceError(
            f"the file cannot be read: {(exc.strerror or str(exc)).lower()}", where=str(path)
        ) from exc


@contextlib.contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told how much is done; a bar on a terminal, else nothing."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=total or None)
        last_s = 0.0

        def done(completed: int) -> None:
            nonlocal last_s
            if time.monotonic() - last_s >= _TICK_S:
                last_s = time.monotonic()
                progress.update(task, completed=completed)

        yield done
