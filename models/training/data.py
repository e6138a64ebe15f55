"""Read the task files and turn them into rows a multi-task step can use.

One row trains one task. The file formats are those of `docs/models/data.md`: gzip or plain TSV
with a header line, no quoting, and a column `text` last.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal, cast

from models.errors import ModelBuildError

TaskName = Literal["sentiment", "toxicity", "language"]
TASKS: tuple[TaskName, ...] = ("sentiment", "toxicity", "language")

#: The source of contrast sentences.
CONTRAST: Final = "contrast"


@dataclass(frozen=True, slots=True)
class Row:
    """One training or dev text.

    `target` is the class index (sentiment, language) or one value per label with -1 for unknown
    (toxicity).
    """

    task: TaskName
    text: str
    source: str
    lang: str
    target: int | tuple[int, ...]


@dataclass(slots=True)
class TaskData:
    """The rows of one task and the labels its targets index into."""

    task: TaskName
    labels: list[str]
    rows: list[Row] = field(default_factory=list)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open("r", encoding="utf-8", newline="")


def find_part(folder: Path, task: str, part: str) -> Path:
    """`folder/task.part.tsv[.gz]`, or an error that names what was looked for."""
    for suffix in (".tsv.gz", ".tsv"):
        path = folder / f"{task}.{part}{suffix}"
        if path.is_file():
            return path
    raise ModelBuildError(
        f"no `{task}.{part}.tsv` or `.tsv.gz` in `{folder}`",
        hint="docs/models/data.md describes the files a build reads",
    )


def read_tsv(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a TSV with a header line, as dictionaries."""
    with _open(path) as stream:
        yield from csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_task(
    folder: Path, task: TaskName, part: str, labels: Sequence[str] | None = None
) -> TaskData:
    """All rows of one task; language labels are learnt from the file when `labels` is None.

    Rows whose label is not in `labels` are left out (a dev set may hold languages that were not
    trained).
    """
    raw = list(read_tsv(find_part(folder, task, part)))
    if labels is None:
        if task != "language":
            raise ModelBuildError(f"the labels of `{task}` must be given")
        labels = sorted({row["lang"] for row in raw})
    index = {label: i for i, label in enumerate(labels)}
    data = TaskData(task, list(labels))
    for row in raw:
        target: int | tuple[int, ...] | None
        if task == "toxicity":
            target = tuple(int(row[label]) for label in labels)
            if all(value < 0 for value in target):
                continue
        else:
            target = index.get(row["label"] if task == "sentiment" else row["lang"])
            if target is None:
                continue
        data.rows.append(Row(task, row["text"], row["source"], row["lang"], target))
    return data


def cap_sources(rows: Sequence[Row], caps: Mapping[str, int], rng: random.Random) -> list[Row]:
    """At most `caps[source]` rows of each named source, drawn at random."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.source, []).append(row)
    kept: list[Row] = []
    for source, group in groups.items():
        cap = caps.get(source, len(group))
        kept.extend(rng.sample(group, cap) if cap < len(group) else group)
    return kept


def draw_epochs(
    rows: Sequence[Row],
    epochs: float,
    rng: random.Random,
    by_source: Mapping[str, float] | None = None,
) -> list[Row]:
    """`epochs` passes over `rows`, or as many as `by_source` says of a row's source.

    The last, partial pass is a random part of them.
    """
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault((by_source or {}).get(row.source, epochs), []).append(row)
    drawn: list[Row] = []
    for passes, group in groups.items():
        whole = int(passes)
        drawn.extend(row for _ in range(whole) for row in group)
        drawn.extend(rng.sample(group, round((passes - whole) * len(group))))
    return drawn
