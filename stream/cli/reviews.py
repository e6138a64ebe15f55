"""`tidegate reviews`: what people decided, and training data made of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stream.cli.options import JsonOption, KafkaOption, SinceOption, since_moment
from stream.cli.output import print_json, print_table
from stream.cli.progress import share_progress
from stream.times import moment_or_never

if TYPE_CHECKING:
    from stream.decisions.stored import TopicValues
    from stream.decisions.training import Row
    from stream.outcomes import Decision, Review
    from stream.settings import KafkaSettings

app = typer.Typer(
    name="reviews",
    help="What people decided: list it, export it for training.",
    no_args_is_help=True,
)
_STDOUT = "-"


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    TSV = "tsv"


@app.command("list")
def list_reviews(
    *,
    since: SinceOption = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Only of this person (a pseudonym).", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest reviews, and whether they still stand."""
    from collections import deque

    from stream.decisions.precision import standing_reviews

    after = since_moment(since)
    settings = _settings(kafka)
    stored = list(_reviews(settings, None))
    standing = {review.review_id for review in standing_reviews(stored).values()}
    found = deque(
        (
            review
            for review in stored
            if (reviewer is None or review.reviewer == reviewer)
            and (after is None or moment_or_never(review.at) >= after)
        ),
        maxlen=limit,
    )
    if as_json:
        rows = [
            {**msgspec.to_builtins(review), "stands": review.review_id in standing}
            for review in reversed(found)
        ]
        print_json({"reviews": rows})
        return
    columns = [("at", "left"), ("reviewer", "left"), ("post", "left"), ("verdict", "left")]
    columns += [("action", "left"), ("stands", "left"), ("labels", "left"), ("note", "left")]
    print_table(
        columns,  # type: ignore[arg-type] # "left" is a literal
        (
            (
                review.at,
                review.reviewer,
                review.post_id,
                review.verdict if review.undoes is None else f"undo {review.undoes}",
                str(review.action or ""),
                "yes" if review.review_id in standing else "",
                "; ".join(
                    f"{task}: {', '.join(names) or 'none'}" for task, names in review.labels.items()
                ),
                review.note or "",
            )
            for review in reversed(found)
        ),
    )


@app.command("export")
def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; `-` is standard output.")
    ] = _STDOUT,
    *,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Default: by the file's name, else jsonl.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(help="The task of a TSV file; JSONL holds every task.")
    ] = "toxicity",
    since: SinceOption = None,
    corrected_only: Annotated[
        bool,
        typer.Option("--corrected-only", help="Only reviews in which a person named labels."),
    ] = False,
    kafka: KafkaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what people decided as training data for `tidegate models train`.

    One row for each post with a standing verdict: its text, language and labels. The labels are
    those that the person named; where none were named, allowing a post says that no toxicity label
    applies, and acting on it upholds the model's. The text comes from `decisions`: what is older
    than that topic keeps is counted, not written.
    """
    from stream.decisions.precision import standing_reviews
    from stream.decisions.stored import TopicValues
    from stream.decisions.training import rows_of
    from stream.topics import DECISIONS

    after = since_moment(since)
    settings = _settings(kafka)
    standing = {
        post: review
        for post, review in standing_reviews(_reviews(settings, None)).items()
        if after is None or moment_or_never(review.at) >= after
    }
    values = TopicValues(settings, DECISIONS, None)
    written = 0
    chosen = form or (Format.TSV if file.endswith((".tsv", ".tsv.gz")) else Format.JSONL)
    with _output(file) as write, share_progress("reading decisions", values.size) as done:
        if chosen is Format.TSV:
            write(b"id\ttext\tlang\tlabels\n")
        for row in rows_of(standing, _decisions(values, done), corrected_only=corrected_only):
            line = _line(row, chosen, task)
            if line is not None:
                write(line)
                written += 1
    result = {"rows": written, "reviewed": len(standing), "left_out": len(standing) - written}
    if as_json and file != _STDOUT:
        print_json({**result, "file": file, "format": str(chosen)})
        return
    typer.echo(
        f"{written:,} rows of {len(standing):,} reviewed posts; {result['left_out']:,} left out: "
        "their text is gone, or the verdict says nothing about labels",
        err=True,
    )


def _settings(kafka: str | None) -> KafkaSettings:
    from stream.kafka.closing import silence_clients
    from stream.settings import load_settings

    silence_clients()
    return load_settings({"kafka.bootstrap": kafka}).kafka


def _reviews(kafka: KafkaSettings, since_ms: int | None) -> Iterator[Review]:
    from stream.decisions.stored import TopicValues, reviews_in
    from stream.topics import REVIEWS

    yield from reviews_in(TopicValues(kafka, REVIEWS, since_ms).values())


def _decisions(values: TopicValues, done: Callable[[int], None]) -> Iterator[Decision]:
    from stream.outcomes import decode_decision

    for number, value in enumerate(values.values(), 1):
        done(number)
        try:
            yield decode_decision(value)
        except msgspec.DecodeError:
            continue


def _line(row: Row, form: Format, task: str) -> bytes | None:
    if form is Format.JSONL:
        return msgspec.json.encode(row.record()) + b"\n"
    labels = row.labels.get(task)
    if labels is None:
        return None
    # The readers take no quotes: a tab or a line break would be a column or a row.
    text = " ".join(row.text.split())
    cells = (row.post_id, text, row.lang or "", ",".join(labels))
    return "\t".join(cells).encode("utf-8", "replace") + b"\n"


@contextmanager
def _output(file: str) -> Iterator[Callable[[bytes], Any]]:
    import gzip

    from stream.cli.written import written

    if file == _STDOUT:
        yield sys.stdout.buffer.write
        sys.stdout.flush()
        return
    with written(Path(file)) as raw:
        if file.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw, mode="wb") as packed:
                yield packed.write
        else:
            yield raw.write
