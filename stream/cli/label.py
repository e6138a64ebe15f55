"""`tidegate label`: one label record a line, in the order of the input, without Kafka."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer

from stream.cli.options import (
    FileArgument,
    FormatOption,
    TextOption,
    chosen_format,
)
from stream.cli.written import written
from stream.errors import ConfigError, SourceError
from stream.records import DeadLetter, Label, ModelRef, encode
from stream.sources.chunks import STDIN
from stream.sources.files import FileSource, Format

app = typer.Typer()
#: More bad lines than this are counted, not named; `--dead-letters` has them all.
_NAMED = 5


class LabelAccount(msgspec.Struct, kw_only=True):
    """What became of the lines: `lines` = `labelled` + `dead_lettered`, blank ones apart.

    `posts_per_s` leaves out the loading of the models, which `seconds` has.
    """

    lines: int = 0
    labelled: int = 0
    dead_lettered: int = 0
    blank: int = 0
    seconds: float = 0.0
    posts_per_s: float = 0.0
    models: dict[str, ModelRef] = msgspec.field(default_factory=dict)


@app.command("label")
def label(
    file: FileArgument,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the labels go; default: standard output.", show_default=False),
    ] = None,
    dead_letters: Annotated[
        Path | None,
        typer.Option(
            help="Where a dead letter for every bad line goes; default: nowhere.",
            show_default=False,
        ),
    ] = None,
    text: TextOption = False,
    form: FormatOption = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="The account as one JSON object: on standard output with --out, else on standard error.",
        ),
    ] = False,
) -> None:
    """Label a file's posts, without Kafka.

    Writes one label record a line, in the order of the input. A line that cannot be a post has no
    record there: it is named on standard error and, with --dead-letters, written to that file.
    Where no line can be one the command ends with code 1.
    """
    from stream.cli.progress import progress_of
    from stream.offline import label_source
    from stream.scoring import scorer_of
    from stream.settings import load_settings

    started_s = time.monotonic()
    models = load_settings().models
    source = FileSource(file, chosen_format(form, text=text))
    _check_distinct(file, out, dead_letters)
    scorer = scorer_of(models)
    account = LabelAccount(
        models={task: ModelRef(id=m.id, version=m.version) for task, m in scorer.models.items()}
    )
    ready_s = time.monotonic()
    with progress_of(source, "labelling") as done:
        bad = _write(label_source(source.batches(), scorer), out, dead_letters, account, done)
    account.lines = account.labelled + account.dead_lettered
    account.blank = source.blank
    account.seconds = round(time.monotonic() - started_s, 3)
    elapsed_s = time.monotonic() - ready_s
    account.posts_per_s = round(account.labelled / elapsed_s, 1) if elapsed_s else 0.0
    _print(account, bad, as_json=as_json, to_stdout=out is not None)
    if account.dead_lettered and not account.labelled:
        of = "its one line" if account.lines == 1 else f"none of its {account.lines:,} lines"
        verb = "is no post" if account.lines == 1 else "is a post"
        raise SourceError(
            f"nothing was labelled: {of} {verb}",
            where="standard input" if file == STDIN else file,
            hint=None if text or form is Format.TEXT else "`--text` takes every line for a text",
        )


def _write(
    windows: Iterable[list[Label | DeadLetter]],
    out: Path | None,
    dead_letters: Path | None,
    account: LabelAccount,
    done: Callable[[int], None],
) -> list[str]:
    """Write the records as they come; the first bad lines in words."""
    bad: list[str] = []
    with (
        written(out) if out else _standard_output() as labels_file,
        written(dead_letters) if dead_letters else contextlib.nullcontext() as letters_file,
    ):
        for records in windows:
            letters = [record for record in records if isinstance(record, DeadLetter)]
            labels_file.write(_lines([r for r in records if isinstance(r, Label)]))
            if letters_file is not None:
                letters_file.write(_lines(letters))
            if out is None:
                labels_file.flush()  # who reads along sees every window at once
            account.dead_lettered += len(letters)
            account.labelled += len(records) - len(letters)
            bad.extend(f"{r.input}: {r.error}" for r in letters[: _NAMED - len(bad)])
            done(account.labelled + account.dead_lettered)
    return bad


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    """Standard output; whoever reads it may stop when it has seen enough (`| head`)."""
    try:
        yield sys.stdout.buffer
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _check_distinct(file: str, out: Path | None, dead_letters: Path | None) -> None:
    paths = [Path(file)] if file != STDIN else []
    for path in filter(None, (out, dead_letters)):
        if path.is_file() and any(other.exists() and path.samefile(other) for other in paths):
            raise ConfigError(f"`{path}` is read and written by the same command")
        if path.absolute() in [other.absolute() for other in paths]:
            raise ConfigError(f"`{path}` is written twice by the same command")
        paths.append(path)


def _lines(records: list[Label] | list[DeadLetter]) -> bytes:
    return b"".join([encode(record) + b"\n" for record in records])


def _print(account: LabelAccount, bad: list[str], *, as_json: bool, to_stdout: bool) -> None:
    for line in bad:
        typer.echo(line, err=True)
    if account.dead_lettered > len(bad):
        typer.echo(f"... and {account.dead_lettered - len(bad):,} bad lines more", err=True)
    if as_json:
        typer.echo(msgspec.json.encode(account), err=not to_stdout)
        return
    rate = f"{account.posts_per_s:,.0f} posts/s"
    words = [f"{account.labelled:,} posts labelled in {account.seconds:,.1f} s ({rate})"]
    if account.dead_lettered:
        words.append(f"{account.dead_lettered:,} bad lines")
    if account.blank:
        words.append(f"{account.blank:,} blank lines skipped")
    typer.echo("; ".join(words), err=True)
