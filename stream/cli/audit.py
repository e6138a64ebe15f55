"""`tidegate audit`: the hash chain checked, and what it holds, from the dashboard's read model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream.cli.options import JsonOption, SinceOption, since_moment
from stream.cli.output import count, print_json, print_table
from stream.cli.progress import records_progress
from stream.errors import ConfigError, TidegateError
from stream.records import rfc3339
from stream.settings import load_settings

if TYPE_CHECKING:
    from dashboard.queries.audit import AuditView

_AT_ONCE = 1000

app = typer.Typer(
    name="audit",
    help="Every decision and every human action: verify the chain, list, export.",
    no_args_is_help=True,
)


class Form(StrEnum):
    """How entries are exported."""

    JSONL = "jsonl"
    CSV = "csv"


DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="The read model: an SQLite file, or a URL of PostgreSQL; default: setting `dashboard.database`.",
        show_default=False,
    ),
]
WhoOption = Annotated[
    str, typer.Option(metavar="PSEUDONYM", help="Only what this person did.", show_default=False)
]
WhatOption = Annotated[
    str,
    typer.Option(
        metavar="WHAT",
        help="Only this; `review.` and the like mean all of a family.",
        show_default=False,
    ),
]
OnOption = Annotated[
    str,
    typer.Option(
        metavar="ID", help="Only what was done to this post, rule or alert.", show_default=False
    ),
]
UntilOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only before then.", show_default=False)
]
PeopleOption = Annotated[bool, typer.Option("--people", help="Only what people did.")]


@app.command("verify")
def verify(*, database: DatabaseOption = None, json: JsonOption = False) -> None:
    """Check every hash of every chain; the first entry that does not fit is named (exit code 1)."""
    from dashboard.queries.audit import chains, verify_chain

    with _read_model(database) as db:
        found = chains(db)
        done, total = 0, sum(chain.entries for chain in found)
        broken = None
        with records_progress("verifying") as told:
            for chain in found:
                broken = verify_chain(db, chain, lambda n, d=done: told(d + n, total - d - n))  # type: ignore[misc]
                if broken is not None:
                    break
                done += chain.entries
        if json:
            print_json(
                {
                    "whole": broken is None,
                    "entries": total,
                    "chains": [chain._asdict() for chain in found],
                    "broken": None if broken is None else broken._asdict(),
                }
            )
        if broken is not None:
            raise TidegateError(
                f"the chain of `{broken.chain}` is broken: {broken.why}",
                where=f"{broken.chain}[{broken.partition}]@{broken.offset}",
                hint="`tidegate dashboard rebuild` makes the chain anew from the topics",
            )
    if not json:
        sys.stdout.write(f"{count(total)} entries in {len(found)} chains: whole\n")


@app.command("list")
def list_(
    *,
    who: WhoOption = "",
    what: WhatOption = "",
    on: OnOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    people: PeopleOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    database: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """The newest entries that pass, the newest first."""
    from dashboard.queries.audit import AuditFilter, audit_entries

    wanted = AuditFilter(who, what, on, _ms(since), _ms(until), people)
    with _read_model(database) as db:
        entries = audit_entries(db, wanted, limit)
    if json:
        print_json([_object(entry) for entry in entries])
        return
    print_table(
        [("at", "left"), ("who", "left"), ("what", "left"), ("on", "left"), ("detail", "left")],
        [(rfc3339(e.at_ms), e.who, e.what, e.on, e.detail) for e in entries],
    )


@app.command("export")
def export(
    *,
    who: WhoOption = "",
    what: WhatOption = "",
    on: OnOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    people: PeopleOption = False,
    form: Annotated[Form, typer.Option("--format", help="JSON lines, or CSV.")] = Form.JSONL,
    database: DatabaseOption = None,
) -> None:
    """Every entry that passes to standard output, chain by chain, with its hash."""
    from dashboard.audit_export import as_csv, jsonl
    from dashboard.queries.audit import AuditFilter, export_entries

    wanted = AuditFilter(who, what, on, _ms(since), _ms(until), people)
    out = sys.stdout.buffer
    with _read_model(database) as db:
        entries = export_entries(db, wanted)
        first = True
        while (some := list(islice(entries, _AT_ONCE))) or first:
            text = jsonl(some) if form is Form.JSONL else as_csv(some)
            # The header stands once.
            out.write(text if first or form is Form.JSONL else text.split(b"\r\n", 1)[1])
            first = False
    out.flush()


@contextmanager
def _read_model(database: str | None) -> Iterator[Any]:
    from dashboard.reader import open_reader

    path = load_settings({"dashboard.database": database}).dashboard.database
    with open_reader(path) as reader:
        if reader is None:
            raise ConfigError(
                "there is no read model",
                where=str(path),
                hint="`tidegate dashboard` makes it, or `tidegate dashboard rebuild`",
            )
        yield reader.db


def _object(entry: AuditView) -> dict[str, Any]:
    found = entry._asdict()
    del found["id"]
    return found | {"at": rfc3339(found.pop("at_ms")), "detail": msgspec.json.decode(entry.detail)}


def _ms(text: str | None) -> int | None:
    at = since_moment(text)
    return None if at is None else round(at.timestamp() * 1000)
