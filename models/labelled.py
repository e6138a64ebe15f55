"""Reads texts with their right answers, for any task: TSV or JSON lines, plain or gzip.

A row that cannot be understood is an error with its line: a set that is quietly smaller measures
something else. The truth of one row is a label's number, or for several labels at once a number
for each: 1, 0, or -1 where it is not known.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from models.errors import ModelBuildError
from models.manifest import LANGUAGE_TASK

_TRUTHS: Final = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "true": 1, "false": 0, "": -1}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One text and its truth; `fields` are what else the row says, to slice by."""

    text: str
    truth: int | tuple[int, ...]
    fields: Mapping[str, str]


def read_labelled(path: Path, task: str, labels: Sequence[str], *, several: bool) -> list[Labelled]:
    """The rows of a file.

    Args:
        path: `.tsv`, `.jsonl`, either with `.gz`.
        task: whose truth is read.
        labels: of the task, in order.
        several: whether several of them may be true at once.

    Raises:
        ModelBuildError: it cannot be read, or a row has no text or a truth the task does not know.
    """
    rows = []
    for line, values in _records(path):
        where = f"{path}:{line}"
        text = values.get("text")
        if not isinstance(text, str) or not text.strip():
            raise ModelBuildError("a row without `text`", where=where)
        truth = _truth(values, task, labels, several=several, where=where)
        if isinstance(truth, int) or any(value >= 0 for value in truth):
            fields = {
                k: str(v) for k, v in values.items() if isinstance(v, str | int) and k != "text"
            }
            rows.append(Labelled(text, truth, fields))
    if not rows:
        raise ModelBuildError(
            f"no row has a truth for the task `{task}`",
            where=str(path),
            hint="docs/models/evaluate.md describes the columns",
        )
    return rows


def find_labels(path: Path, task: str) -> tuple[list[str], bool]:
    """The labels that occur in a file, sorted, and whether several may be true at once.

    Raises:
        ModelBuildError: it cannot be read or names none.
    """
    found: dict[str, None] = {}
    several = False
    columns: set[str] = set()
    for _, values in _records(path):
        given = _given(values, task)
        if given is None:
            columns.update(
                k for k, v in values.items() if str(v).lower() in _TRUTHS and k != "text"
            )
            continue
        if isinstance(given, str):
            found[given] = None
        else:
            several = True
            found.update(dict.fromkeys(given))
    if columns and not found:
        return sorted(columns - {"lang", "source", "id"}), True
    if not found:
        raise ModelBuildError(f"no labels of the task `{task}` in it", where=str(path))
    return sorted(found), several


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open("r", encoding="utf-8-sig", newline="")


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and fields of each row."""
    try:
        with _open(path) as stream:
            if path.name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson")):
                yield from _json_lines(path, stream)
            else:
                reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
                for row in reader:
                    yield reader.line_num, dict(row)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ModelBuildError(f"cannot be read: {exc}", where=str(path)) from exc


def _json_lines(path: Path, stream: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as exc:
            raise ModelBuildError(f"not JSON: {exc}", where=f"{path}:{number}") from exc
        if not isinstance(values, dict):
            raise ModelBuildError("not a JSON object", where=f"{path}:{number}")
        yield number, values


def _given(values: Mapping[str, Any], task: str) -> str | list[str] | None:
    """The labels as a row names them: `label`, or `labels`, or by task; None: in columns."""
    labels = values.get("labels")
    if isinstance(labels, Mapping):
        labels = labels.get(task)
    elif isinstance(labels, str):
        labels = [part.strip() for part in labels.split(",") if part.strip()]
    if isinstance(labels, list):
        return [str(label) for label in labels]
    if isinstance(labels, str):
        return labels
    label = values.get("label")
    if label is None and task == LANGUAGE_TASK:
        label = values.get("lang")
    return None if label is None else str(label)


def _truth(
    values: Mapping[str, Any], task: str, labels: Sequence[str], *, several: bool, where: str
) -> int | tuple[int, ...]:
    given = _given(values, task)
    if given is None:
        if several:
            return tuple(_known(values.get(label, ""), label, where) for label in labels)
        # A row about other tasks, as in an export of reviews.
        return ()
    names = [given] if isinstance(given, str) else given
    names = [name for name in names if name != "none" or "none" in labels]
    unknown = next((name for name in names if name not in labels), None)
    if unknown is not None:
        raise ModelBuildError(
            f"`{unknown}` is not a label of the task `{task}`",
            where=where,
            hint=f"it has {', '.join(f'`{label}`' for label in labels[:12])}",
        )
    if several:
        return tuple(int(label in names) for label in labels)
    if len(names) != 1:
        raise ModelBuildError(f"{len(names)} labels where `{task}` has one answer", where=where)
    return labels.index(names[0])


def _known(value: object, label: str, where: str) -> int:
    truth = _TRUTHS.get(str(value).strip().lower())
    if truth is None:
        raise ModelBuildError(f"`{label}` is `{value}`, not 1, 0 or -1", where=where)
    return truth
