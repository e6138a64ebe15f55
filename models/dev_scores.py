"""How a model's scores lie on the dev rows, and how often they came true: the file beside a graph.

Live scores are compared with it (drift), and its calibration is drawn from it.

    python -m models.dev_scores FOLDER_WITH_DEV_ROWS [MODEL]

Invariant: the file names the model and version that it was measured of; who reads it for another
version has no dev distribution.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.errors import ModelBuildError
from models.manifest import LANGUAGE_TASK, Manifest, Model, load_manifest
from models.plots import reliability

if TYPE_CHECKING:
    from models.evaluate import Bench
    from models.training.data import TaskData, TaskName

FILE: Final = "dev_scores.json"
SCORE_BINS: Final = 100


class Reliable(msgspec.Struct, frozen=True):
    """Rows that were given about one score: the mean score, how often it was so, how many rows."""

    said: float
    so: float
    rows: int


class LabelScores(msgspec.Struct, frozen=True, kw_only=True):
    """One label: `counts[i]` rows scored from `i / 100` to `(i + 1) / 100`, and how true that was."""

    counts: list[int]
    reliability: list[Reliable]


class DevScores(msgspec.Struct, frozen=True, kw_only=True):
    """Every label as `task.label`; the languages' are left out, whose records carry a few only."""

    model: str
    version: str
    labels: dict[str, LabelScores]


def label_scores(score: NDArray[Any], truth: NDArray[Any]) -> LabelScores:
    """One label's scores.

    Args:
        score: of each row, 0 to 1.
        truth: of each row, 1 or 0, or -1 where it is not known.
    """
    place = np.clip((score * SCORE_BINS + 1e-9).astype(int), 0, SCORE_BINS - 1)
    known = truth >= 0
    points = reliability(truth[known], score[known])
    return LabelScores(
        counts=[int(n) for n in np.bincount(place, minlength=SCORE_BINS)],
        reliability=[Reliable(round(a, 4), round(b, 4), rows) for a, b, rows in points],
    )


def dev_scores(bench: Bench, rows: Mapping[TaskName, TaskData]) -> DevScores:
    """Score the dev rows of every task but the language."""
    found = {}
    for task, part in rows.items():
        if task == LANGUAGE_TASK:
            continue
        scores = bench.dev_probabilities(task, part, lambda *_: None)
        for i, label in enumerate(part.labels):
            truth = [
                row.target[i] if isinstance(row.target, tuple) else int(row.target == i)
                for row in part.rows
            ]
            found[f"{task}.{label}"] = label_scores(scores[:, i], np.array(truth))
    return DevScores(model=bench.model.id, version=bench.model.version, labels=found)


def read_dev_scores(manifest: Manifest, model: Model) -> DevScores | None:
    """What was measured of this model and version; None: nothing."""
    path = manifest.file(model, FILE)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=DevScores)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        raise ModelBuildError(f"the dev scores cannot be read: {exc}", where=str(path)) from exc
    return found if (found.model, found.version) == (model.id, model.version) else None


def main() -> None:
    """Measure a model on dev rows and write the file beside its graph."""
    from models.evaluate import Bench, dev_rows

    parser = argparse.ArgumentParser(prog="python -m models.dev_scores", description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder with sentiment.dev.tsv and the like")
    parser.add_argument("model", nargs="?", default="compact", help="of the manifest")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    manifest = load_manifest()
    model = manifest.model(options.model)
    heads = {task: head for task, head in model.heads.items() if task != LANGUAGE_TASK}
    rows = dev_rows(msgspec.structs.replace(model, heads=heads), options.data)
    bench = Bench(manifest, options.model, fp32=None, threads=options.threads)
    path = manifest.file(model, FILE)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(dev_scores(bench, rows)), indent=0))
    sys.stderr.write(f"{path}: {sum(len(part.rows) for part in rows.values()):,} rows\n")


if __name__ == "__main__":
    main()
