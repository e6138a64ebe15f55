"""Fine-tunes a classifier for one task on labelled texts, and puts it beside the one in use.

The best epoch on the dev rows is kept; training ends when it has not been beaten for a while. A
run that was interrupted goes on from its checkpoint. A model takes the place of the one in use
only where it is better on the same dev rows, or by force. Needs the extra `models`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from models.adopt import Adopted, Adoption, adopt
from models.assess import Assessed, TaskEvaluation, assess
from models.checkpoint import Asked, need_extra
from models.contradictions import member_tasks
from models.errors import ModelBuildError
from models.labelled import find_labels, read_labelled
from models.manifest import Manifest, load_manifest
from models.metrics import best_f1_threshold
from models.training.task_run import (
    BEST,
    STATE_FILE,
    Report,
    State,
    TaskRows,
    Training,
)
from models.user_manifest import add_model

_MIN_ROWS: Final = 20
#: Dev rows are one in so many, where no file of them is given.
_DEV_SHARE: Final = 10
_MIN_PRECISION: Final = 0.5


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it: the figures on the dev rows, beside those of the model in use."""

    adopted: Adopted
    figures: TaskEvaluation
    score: float
    in_use: str | None
    in_use_score: float | None
    epochs: int
    remarks: list[str]

    @property
    def better(self) -> bool:
        """Whether it may take the place of the one in use."""
        return self.in_use_score is None or self.score > self.in_use_score


def train(
    what: Training,
    manifest: Manifest,
    preset: str,
    name: str,
    report: Report = lambda _step, _share, _remark: None,
) -> Trained:
    """Fine-tune, export and measure; nothing is written outside `what.out`.

    Raises:
        ModelBuildError: the rows are too few, or training failed.
        ModelSourceError: the base cannot be had or loaded.
    """
    need_extra()
    rows = _rows(what)
    what.out.mkdir(parents=True, exist_ok=True)
    dev = _write_dev(what, rows)
    state = _fit(what, rows, report)
    report("export", 0.0, "")
    candidate = what.out / "served" / "manifest.toml"
    shutil.rmtree(candidate.parent, ignore_errors=True)
    adopted = adopt(
        Adoption(
            name=name,
            source=str(what.out / BEST),
            manifest=candidate,
            posts=[row.text for row in (*rows.dev, *rows.train)][:2000],
            asked=Asked(task=what.task, labels=rows.labels, max_tokens=what.max_tokens),
        ),
        report,
    )
    adopted = _with_thresholds(adopted, what.task, dev)
    found = assess(load_manifest(candidate), name, what.task, dev, alone=True)
    remarks = list(adopted.remarks)
    used, used_score = _in_use(manifest, preset, what.task, dev, remarks)
    return Trained(
        adopted=adopted,
        figures=found.figures,
        score=headline(found),
        in_use=used,
        in_use_score=used_score,
        epochs=state.epoch,
        remarks=remarks,
    )


def put_in_place(trained: Trained, manifest: Path) -> str | None:
    """Move the trained model's files beside `manifest` and write its entry; returns its preset."""
    source = trained.adopted.manifest.parent / trained.adopted.model.folder
    target = manifest.parent / trained.adopted.model.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    return add_model(manifest, trained.adopted.name, trained.adopted.model)


def headline(assessed: Assessed) -> float:
    """The figure that models are compared by: macro-recall, or the labels' mean ROC-AUC."""
    if not assessed.figures.several:
        return assessed.figures.all.macro_recall
    known = [
        figures.detection.roc_auc
        for figures in assessed.figures.labels.values()
        if figures.detection.roc_auc is not None
    ]
    return float(np.mean(known)) if known else 0.0


def _rows(what: Training) -> TaskRows:
    labels, several = find_labels(what.data, what.task)
    if len(labels) < 2 and not several:
        raise ModelBuildError(
            f"only the label `{labels[0]}` occurs: there is nothing to tell apart",
            where=str(what.data),
        )
    rows = read_labelled(what.data, what.task, labels, several=several)
    if what.dev is not None:
        dev = read_labelled(what.dev, what.task, labels, several=several)
        train_rows = rows
    else:
        # By the text: a text that occurs twice is on one side.
        held = [_hash(row.text) % _DEV_SHARE == 0 for row in rows]
        dev = [row for row, here in zip(rows, held, strict=True) if here]
        train_rows = [row for row, here in zip(rows, held, strict=True) if not here]
    if min(len(train_rows), len(dev) * 5) < _MIN_ROWS:
        raise ModelBuildError(
            f"{len(train_rows)} rows to train on and {len(dev)} to measure on are too few",
            where=str(what.data),
            hint=f"at least {_MIN_ROWS} and {_MIN_ROWS // 5}; `--dev FILE` gives rows to measure on",
        )
    return TaskRows(train_rows, dev, labels, several)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4])


def _write_dev(what: Training, rows: TaskRows) -> Path:
    """The dev rows as a file, so that every model is measured on the same ones."""
    path = what.out / "dev.jsonl"
    lines = []
    for row in rows.dev:
        if isinstance(row.truth, int):
            truth: dict[str, Any] = {"label": rows.labels[row.truth]}
        else:
            truth = dict(zip(rows.labels, row.truth, strict=True))
        kept = {k: v for k, v in row.fields.items() if k in {"lang", "source"}}
        lines.append(json.dumps({"text": row.text, **kept, **truth}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", "utf-8", "replace")
    return path


def _fit(what: Training, rows: TaskRows, report: Report) -> State:
    state_file = what.out / STATE_FILE
    run = _fingerprint(what, rows)
    state = State(run=run)
    if state_file.is_file():
        state = State(**json.loads(state_file.read_text("utf-8")))
    if state.run != run:
        raise ModelBuildError(
            "the run in this folder is of other rows or settings",
            where=str(what.out),
            hint="give another `--out`, or delete the folder to begin again",
        )
    if state.done:
        return state
    report("train", 0.0, "loading")
    from models.training.one_task import OneTaskFit  # torch: loaded where it is needed

    return OneTaskFit(what, rows, state, report).run()


def _fingerprint(what: Training, rows: TaskRows) -> str:
    settings = [
        what.task, what.base, what.revision, what.epochs, what.patience, what.batch_rows,
        what.learning_rate, what.max_tokens, what.seed, rows.labels,
    ]  # fmt: skip
    content = [(row.text, row.truth) for row in (*rows.train, *rows.dev)]
    text = json.dumps([settings, content])
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _with_thresholds(adopted: Adopted, task: str, dev: Path) -> Adopted:
    """The entry with the thresholds of the largest F1 on the dev rows."""
    head = adopted.model.heads[task]
    if head.activation != "sigmoid":
        return adopted
    found = assess(load_manifest(adopted.manifest), adopted.name, task, dev, alone=True)
    thresholds = {}
    for column, label in enumerate(head.labels):
        known = found.truth[:, column] >= 0
        best = best_f1_threshold(
            found.truth[known, column], found.probabilities[known, column], _MIN_PRECISION
        )
        thresholds[label] = 0.5 if best is None else best
    heads = {**adopted.model.heads, task: msgspec.structs.replace(head, thresholds=thresholds)}
    model = msgspec.structs.replace(adopted.model, heads=heads)
    add_model(adopted.manifest, adopted.name, model)
    return Adopted(adopted.name, model, adopted.manifest, adopted.preset, adopted.remarks)


def _in_use(
    manifest: Manifest, preset: str, task: str, dev: Path, remarks: list[str]
) -> tuple[str | None, float | None]:
    """The model that answers the task now, and its figure on the same rows."""
    members: Mapping[str, Any] = {}
    if preset in manifest.presets:
        members = manifest.preset(preset)
    owner = next((name for name, model in members.items() if task in model.heads), None)
    if owner is None:
        return None, None
    assert owner in {member_tasks(member)[0] for member in manifest.presets[preset]}
    try:
        return owner, headline(assess(manifest, owner, task, dev, alone=True))
    except ModelBuildError as exc:
        remarks.append(f"not compared with `{owner}`, which is in use: {exc.message}")
        return owner, None
