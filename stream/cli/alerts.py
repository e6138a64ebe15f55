"""`tidegate alerts`: what is going on, are the rules right, how often would they have fired."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from stream.cli.alerts_backtest import RulesOption, backtest, rules_of
from stream.cli.options import JsonOption, KafkaOption, SinceOption, since_moment
from stream.cli.output import age, print_json, print_table
from stream.errors import ConfigError
from stream.settings import KafkaSettings, load_settings
from stream.times import moment_or_never, timestamp_ms

if TYPE_CHECKING:
    from stream.alerts.rules import Rule
    from stream.outcomes import Alert

app = typer.Typer(
    name="alerts", help="List alerts; check, test and try their rules.", no_args_is_help=True
)

#: `test --fire` waits no longer for a topic that is not there.
_WAIT_S = 15.0

State = Literal["firing", "resolved"]
Severity = Literal["info", "low", "medium", "high", "critical"]


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
def checkrules_of(
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

    path, loaded = rules_of(rules)
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
    wait_ms = round(1000 * min(kafka.request_timeout_s, _WAIT_S))
    try:
        producer = KafkaProducer(**kafka_python_config(kafka), acks="all", max_block_ms=wait_ms)
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


app.command("backtest")(backtest)
