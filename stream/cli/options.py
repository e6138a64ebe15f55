"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from stream.errors import ConfigError
from stream.sources.files import Format
from stream.times import since

FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="JSONL, CSV, TSV or a JSON array, plain or gzip; `-` is standard input.",
        show_default=False,
    ),
]
TextOption = Annotated[bool, typer.Option("--text", help="Every line is a post's text.")]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="How the posts stand in the file; default: by its name, then its first line.",
        show_default=False,
    ),
]  # fmt: skip
KafkaOption = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        metavar="HOST:PORT",
        help="The broker; default: setting `kafka.bootstrap`.",
        show_default=False,
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only from then on: 30min, 2h, 7d, or 2026-11-22T10:00:00Z.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def since_moment(text: str | None) -> datetime | None:
    """The time that `--since` means.

    Raises:
        ConfigError: it is no time.
    """
    return None if text is None else since(text, datetime.now(UTC))


def chosen_format(form: Format | None, *, text: bool) -> Format | None:
    """What `--format` and `--text` ask for together.

    Raises:
        ConfigError: they contradict each other.
    """
    if text and form not in (None, Format.TEXT):
        raise ConfigError(
            f"`--text` and `--format {form}` contradict each other", hint="leave one out"
        )
    return Format.TEXT if text else form
