"""`tidegate dead-letters`: what could not be a post, why, and the way back after mending.

Every command reads the topic up to the end it has when the command starts, and then stops.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from stream.cli.options import JsonOption, KafkaOption, SinceOption, since_moment
from stream.cli.output import count, print_json, print_table
from stream.errors import ConfigError
from stream.kafka.dead_letters import (
    Kept,
    LetterFilter,
    ReplayCount,
    StoredLetter,
    read_letters,
    replay_letters,
    why_kept,
)
from stream.records import DeadLetter, DeadLetterReason
from stream.settings import KafkaSettings, load_settings
from stream.topics import CATALOGUE

app = typer.Typer(
    name="dead-letters",
    help="List, show, count and replay what could not be a post.",
    no_args_is_help=True,
)

_SHOWN_BYTES = 4096
_WHY_KEPT = {
    Kept.INCOMPLETE: "too large to have been kept whole",
    Kept.NO_TOPIC: "never was in a topic: it comes from a file",
    Kept.TOPIC_GONE: "its topic is not there any more",
}

ReasonOption = Annotated[
    list[DeadLetterReason] | None,
    typer.Option("--reason", help="Only with this reason; may be repeated.", show_default=False),
]
TopicOption = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Only from this topic; may be repeated.", show_default=False),
]


@app.command("list")
def list_letters(
    *,
    reason: ReasonOption = None,
    since: SinceOption = None,
    topic: TopicOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest dead letters, without their contents."""
    settings = load_settings({"kafka.bootstrap": kafka}).kafka
    found = heapq.nlargest(
        limit,
        _read(settings, _filter(settings, reason, since, topic)),
        key=lambda stored: (stored.letter.at, stored.partition, stored.offset),
    )
    if as_json:
        print_json({"dead_letters": [_summary(stored) for stored in found]})
        return
    print_table(
        [("when", "left"), ("reason", "left"), ("id", "left"), ("try", "right"), ("error", "left")],
        [
            (
                s.letter.at,
                s.letter.reason,
                s.letter.dead_letter_id,
                str(s.letter.attempt),
                s.letter.error,
            )
            for s in found
        ],
    )
    if not found:
        typer.echo("no dead letters", err=True)


@app.command("count")
def count_letters(
    *,
    reason: ReasonOption = None,
    since: SinceOption = None,
    topic: TopicOption = None,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the dead letters by reason."""
    settings = load_settings({"kafka.bootstrap": kafka}).kafka
    by_reason = Counter(
        stored.letter.reason for stored in _read(settings, _filter(settings, reason, since, topic))
    )
    if as_json:
        print_json({"total": by_reason.total(), "reasons": dict(by_reason.most_common())})
        return
    rows = [*by_reason.most_common(), ("total", by_reason.total())]
    print_table(
        [("reason", "left"), ("dead letters", "right")],
        [(name, count(number)) for name, number in rows],
    )


@app.command("show")
def show(
    letter_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="As `list` shows it: topic/partition/offset or file:line."
        ),
    ],
    *,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its original bytes."""
    settings = load_settings({"kafka.bootstrap": kafka}).kafka
    for stored in _read(settings, lambda _letter: True):
        if letter_id in (stored.letter.dead_letter_id, _place(settings, stored)):
            break
    else:
        raise ConfigError(
            f"no dead letter has the id `{letter_id}`",
            hint="`tidegate dead-letters list` shows the ids",
        )
    if as_json:
        print_json(stored.letter)
        return
    letter = stored.letter
    facts = {
        "id": letter.dead_letter_id,
        "reason": f"{letter.reason}: {letter.error}",
        "when": letter.at,
        "attempt": str(letter.attempt),
        "stored at": _place(settings, stored),
        "input": letter.input,
        "post": letter.post_id,
        "key": None if letter.key is None else _as_text(letter.key),
    }
    print_table(
        [("", "right"), ("", "left")], [(name, value) for name, value in facts.items() if value]
    )
    whole = (
        "" if not letter.original_truncated else f", the first {count(len(letter.original))} kept"
    )
    typer.echo(f"\noriginal, {count(letter.original_bytes)} bytes{whole}:\n")
    typer.echo(_as_text(letter.original[:_SHOWN_BYTES]))
    if len(letter.original) > _SHOWN_BYTES:
        typer.echo(
            f"... {count(len(letter.original) - _SHOWN_BYTES)} more bytes: use --json", err=True
        )


@app.command("replay")
def replay(
    *,
    reason: ReasonOption = None,
    since: SinceOption = None,
    topic: TopicOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many, the oldest.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the originals back to the topic they came from, with the same key.

    They carry the header `tidegate-attempt`. What was too large to be kept whole stays.
    """
    settings = load_settings({"kafka.bootstrap": kafka}).kafka
    wanted = _filter(settings, reason, since, topic)
    partitions = _partitions(settings)
    if dry_run or (sys.stdin.isatty() and not yes):
        expected = ReplayCount()
        for letter in _letters(settings, wanted, limit):
            kept = why_kept(letter, partitions)
            if kept is None and letter.origin is not None:
                expected.replayed += 1
                expected.topics[letter.origin.topic] += 1
            elif kept is not None:
                expected.kept[kept] += 1
        if dry_run:
            _print_replay(expected, as_json, "would be sent back")
            return
        if expected.replayed:
            topics = ", ".join(expected.topics)
            typer.confirm(
                f"Send {count(expected.replayed)} dead letters back to {topics}?",
                abort=True,
                err=True,
            )
    done = ReplayCount()
    try:
        replay_letters(settings, _letters(settings, wanted, limit), partitions, done)
    finally:
        _print_replay(done, as_json, "sent back")


def _letters(kafka: KafkaSettings, wanted: LetterFilter, limit: int | None) -> Iterator[DeadLetter]:
    found: Any = (stored.letter for stored in _read(kafka, wanted))
    if limit is not None:
        found = heapq.nsmallest(limit, found, key=lambda letter: letter.at)
    yield from found


def _read(kafka: KafkaSettings, wanted: Any) -> Iterator[StoredLetter]:
    from stream.kafka.preflight import check_broker

    check_broker(kafka)
    unreadable = 0

    def note(_partition: int, _offset: int) -> None:
        nonlocal unreadable
        unreadable += 1

    yield from read_letters(kafka, wanted, note)
    if unreadable:
        typer.echo(f"{count(unreadable)} records in the topic are no dead letters", err=True)


def _partitions(kafka: KafkaSettings) -> dict[str, int]:
    """Every topic of the catalogue that exists; nothing is replayed anywhere else."""
    from stream.kafka.admin import open_admin

    with open_admin(kafka) as admin:
        return {name: topic.partitions for name, topic in admin.layout().items()}


def _filter(
    kafka: KafkaSettings,
    reasons: list[DeadLetterReason] | None,
    since: str | None,
    topics: list[str] | None,
) -> LetterFilter:
    known = {topic.name: topic.full_name(kafka.topic_prefix) for topic in CATALOGUE}
    return LetterFilter(
        reasons=frozenset(str(reason) for reason in reasons or []),
        topics=frozenset(known.get(topic, topic) for topic in topics or []),
        since=since_moment(since),
    )


def _summary(stored: StoredLetter) -> dict[str, Any]:
    """The letter without its original: what a list needs."""
    fields: dict[str, Any] = msgspec.to_builtins(stored.letter)
    del fields["original"]
    return fields


def _place(kafka: KafkaSettings, stored: StoredLetter) -> str:
    return f"{kafka.topic_prefix}dead-letters/{stored.partition}/{stored.offset}"


def _as_text(data: bytes) -> str:
    """Readable, and harmless on a terminal: bytes that are not text are escaped."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def _print_replay(done: ReplayCount, as_json: bool, what: str) -> None:
    if as_json:
        print_json(
            {
                "replayed": done.replayed,
                "topics": dict(done.topics),
                "kept": {str(kept): number for kept, number in done.kept.items()},
            }
        )
        return
    typer.echo(f"{count(done.replayed)} {what}")
    for kept, number in done.kept.items():
        typer.echo(f"{count(number)} kept: {_WHY_KEPT[kept]}")
