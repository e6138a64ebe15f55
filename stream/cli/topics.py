"""`tidegate topics`: the catalogue's topics on the broker. Nothing here deletes or changes one."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.cli.options import JsonOption, KafkaOption
from stream.cli.output import age, count, print_json, print_table
from stream.errors import ConfigError
from stream.kafka.admin import open_admin
from stream.kafka.states import GroupLag, TopicState
from stream.settings import load_settings
from stream.topics import CATALOGUE, POSTS, Topic

app = typer.Typer(name="topics", help="Create, list and describe the topics.", no_args_is_help=True)

NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Topics of the catalogue; default: all.", show_default=False
    ),
]


@app.command("create")
def create(
    *,
    kafka: KafkaOption = None,
    partitions: Annotated[
        int | None,
        typer.Option(help="Default: setting `kafka.partitions`.", show_default=False),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(help="Default: setting `kafka.replication`.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that are missing; those that are there stay as they are."""
    settings = load_settings(
        {
            "kafka.bootstrap": kafka,
            "kafka.partitions": partitions,
            "kafka.replication": replication,
        }
    )
    with open_admin(settings.kafka) as admin:
        topics = admin.create_missing()
    if as_json:
        print_json({"broker": settings.kafka.bootstrap, "topics": topics})
        return
    print_table(
        [("topic", "left"), ("partitions", "right"), ("", "left")],
        [(t.name, count(t.partitions), "created" if t.created else "was there") for t in topics],
    )


@app.command("list")
def list_topics(*, kafka: KafkaOption = None, as_json: JsonOption = False) -> None:
    """List the topics with what is in them."""
    settings = load_settings({"kafka.bootstrap": kafka})
    with open_admin(settings.kafka) as admin:
        topics = admin.describe()
    if as_json:
        print_json({"broker": settings.kafka.bootstrap, "topics": topics})
        return
    print_table(
        [
            ("topic", "left"),
            ("partitions", "right"),
            ("records", "right"),
            ("kept", "right"),
            ("what", "left"),
        ],
        [
            (
                state.topic,
                count(len(state.partitions)) if state.exists else "-",
                count(state.records) if state.exists else "-",
                "-" if state.retention_s is None else age(state.retention_s),
                state.description if state.exists else "missing: `tidegate topics create`",
            )
            for state in topics
        ],
    )


@app.command("describe")
def describe(
    names: NamesArgument = None, *, kafka: KafkaOption = None, as_json: JsonOption = False
) -> None:
    """Describe the topics: partitions, offsets, retention, problems, and how far workers are behind."""
    chosen = _chosen(names)
    settings = load_settings({"kafka.bootstrap": kafka})
    with open_admin(settings.kafka) as admin:
        topics = admin.describe(chosen)
        lag = admin.lag() if POSTS in chosen else None
    if as_json:
        print_json({"broker": settings.kafka.bootstrap, "topics": topics, "lag": lag})
        return
    for state in topics:
        _print_topic(state)
    if lag is not None:
        _print_lag(lag)


def _chosen(names: list[str] | None) -> list[Topic]:
    known = {topic.name: topic for topic in CATALOGUE}
    if unknown := [name for name in names or [] if name not in known]:
        raise ConfigError(
            f"`{unknown[0]}` is not in the catalogue",
            hint=f"the topics are {', '.join(known)}; names are given without the prefix",
        )
    return [known[name] for name in names] if names else list(CATALOGUE)


def _print_topic(state: TopicState) -> None:
    kept = "unknown" if state.retention_s is None else age(state.retention_s)
    facts = f"{state.topic}: {state.description} ({state.record}, key: {state.key}, kept {kept})"
    typer.echo(facts if state.exists else f"{state.topic}: {state.description}")
    for problem in state.problems:
        typer.echo(f"  problem: {problem}")
    if state.exists:
        print_table(
            [
                ("  partition", "right"),
                ("first", "right"),
                ("end", "right"),
                ("records", "right"),
                ("in sync", "right"),
            ],
            [
                (
                    count(p.partition),
                    count(p.first),
                    count(p.end),
                    count(p.end - p.first),
                    f"{p.in_sync}/{p.replicas}",
                )
                for p in state.partitions
            ],
        )
    typer.echo()


def _print_lag(lag: GroupLag) -> None:
    typer.echo(f"consumer group `{lag.group}`: {count(lag.lag)} posts behind")
    print_table(
        [("  partition", "right"), ("committed", "right"), ("end", "right"), ("behind", "right")],
        [
            (
                count(row.partition),
                "-" if row.committed is None else count(row.committed),
                count(row.end),
                count(row.lag),
            )
            for row in lag.partitions
        ],
    )
