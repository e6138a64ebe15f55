"""Fine-tunes a classifier for one task on labelled texts, and puts it beside the one in use.

The best epoch on the dev rows is kept; training ends when it has not been beaten for a while. A
run that was interrupted goes on from its checkpoint. A model takes the place of the one in use
only where it is better on the same dev rows, or by force. Needs the extra `models`.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.adopt import Adopted, Adoption, adopt
from models.assess import Assessed, TaskEvaluation, assess
from models.checkpoint import Asked, fetch, need_extra
from models.errors import ModelBuildError, ModelSourceError
from models.labelled import Labelled, find_labels, read_labelled
from models.manifest import Manifest, load_manifest, member_tasks
from models.metrics import best_f1_threshold, class_figures, roc_auc
from models.user_manifest import add_model

#: Where a run starts when nothing is said: small, multilingual, MIT.
DEFAULT_BASE: Final = "intfloat/multilingual-e5-small"
_STATE: Final = "state.json"
_BEST: Final = "best"
_MIN_ROWS: Final = 20
#: Dev rows are one in so many, where no file of them is given.
_DEV_SHARE: Final = 10
_MIN_PRECISION: Final = 0.5
_CHECKPOINT_EVERY_S: Final = 300.0

#: Told the step, the share of it that is done (0 to 1) and a remark.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Training:
    """What to train and where.

    Args:
        task: what the model shall answer.
        data: TSV or JSON lines (`models.labelled`), as `tidegate reviews export` writes them.
        out: folder of the run; the same command goes on with what is there.
        base: a Hub id or a folder of an encoder or a classifier.
        revision: of the Hub id.
        dev: rows to measure on; None: one in ten of `data`, by a hash of the text.
        epochs: most passes over the rows.
        patience: epochs without a better one after which it ends.
        batch_rows: of one step.
        learning_rate: of the encoder; the head's is five times it.
        max_tokens: of a text.
        seed: of everything that is drawn.
    """

    task: str
    data: Path
    out: Path
    base: str = DEFAULT_BASE
    revision: str | None = None
    dev: Path | None = None
    epochs: int = 5
    patience: int = 2
    batch_rows: int = 32
    learning_rate: float = 5e-5
    max_tokens: int = 128
    seed: int = 1


@dataclass(slots=True)
class _State:
    """Where a run stands, and of which settings and rows it is; written with every checkpoint."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    done: bool = False
    run: str = ""


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


@dataclass(frozen=True, slots=True)
class _Rows:
    train: list[Labelled]
    dev: list[Labelled]
    labels: list[str]
    several: bool


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
            source=str(what.out / _BEST),
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


def _rows(what: Training) -> _Rows:
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
    return _Rows(train_rows, dev, labels, several)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4])


def _write_dev(what: Training, rows: _Rows) -> Path:
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


def _fit(what: Training, rows: _Rows, report: Report) -> _State:
    state_file = what.out / _STATE
    run = _fingerprint(what, rows)
    state = _State(run=run)
    if state_file.is_file():
        state = _State(**json.loads(state_file.read_text("utf-8")))
    if state.run != run:
        raise ModelBuildError(
            "the run in this folder is of other rows or settings",
            where=str(what.out),
            hint="give another `--out`, or delete the folder to begin again",
        )
    if state.done:
        return state
    report("train", 0.0, "loading")
    return _Fit(what, rows, state, report).run()


def _fingerprint(what: Training, rows: _Rows) -> str:
    settings = [
        what.task, what.base, what.revision, what.epochs, what.patience, what.batch_rows,
        what.learning_rate, what.max_tokens, what.seed, rows.labels,
    ]  # fmt: skip
    content = [(row.text, row.truth) for row in (*rows.train, *rows.dev)]
    text = json.dumps([settings, content])
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


class _Fit:
    """One run: the model in training and its rows as tokens."""

    def __init__(self, what: Training, rows: _Rows, state: _State, report: Report) -> None:
        import torch

        from models.training.data import Row
        from models.training.fit import _Run

        torch.manual_seed(what.seed)
        self.what, self.rows, self.state, self.report = what, rows, state, report
        self.model, self.fast = _load_base(what, rows)
        self.settings: dict[str, Any] = {
            "seed": what.seed, "batch_rows": what.batch_rows, "sort_chunk_batches": 20,
            "learning_rate": what.learning_rate, "head_learning_rate": 5 * what.learning_rate,
            "weight_decay": 0.01, "clip_norm": 1.0,
        }  # fmt: skip
        task = cast("Any", what.task)
        self.train = [Row(task, r.text, "", r.fields.get("lang", ""), r.truth) for r in rows.train]
        self.dev = [Row(task, r.text, "", r.fields.get("lang", ""), r.truth) for r in rows.dev]
        self.tokens = {id(part): self._tokens(part) for part in (self.train, self.dev)}
        self.steps_an_epoch = math.ceil(len(self.train) / what.batch_rows)
        steps = self.steps_an_epoch * what.epochs
        self.settings["warmup_steps"] = max(1, steps // 20)
        self.run_of = _Run(self.model, self.settings, steps, what.out / "checkpoint.pt")

    def run(self) -> _State:
        what, state = self.what, self.state
        done = self.run_of.resume()
        step = state.epoch * self.steps_an_epoch
        saved_at = time.monotonic()
        while state.epoch < what.epochs and state.epoch - state.best_epoch < what.patience:
            for batch in self._batches(self.train, state.epoch):
                step += 1
                if step <= done:
                    continue
                self._learn(batch, step)
                if time.monotonic() - saved_at > _CHECKPOINT_EVERY_S:
                    self.run_of.save(step)
                    self._save_state()
                    saved_at = time.monotonic()
            state.epoch += 1
            self._measure()
            self.run_of.save(step)
            self._save_state()
        state.done = True
        self._save_state()
        self.run_of.checkpoint.unlink(missing_ok=True)
        return state

    def _learn(self, batch: Any, step: int) -> None:
        self.model.train()
        seen = self.run_of.step(batch, cast("Any", self._loss), step)
        best = f", best {self.state.best:.3f}" if self.state.best >= 0 else ""
        share = step / (self.steps_an_epoch * self.what.epochs)
        self.report(
            "train", share, f"epoch {self.state.epoch + 1}, loss {seen[self.what.task]:.3f}{best}"
        )

    def _measure(self) -> None:
        """Score the dev rows; the best epoch so far is saved."""
        score = self._score(self._probabilities())
        if score > self.state.best:
            self.state.best, self.state.best_epoch = score, self.state.epoch
            part = self.what.out / f"{_BEST}.part"
            shutil.rmtree(part, ignore_errors=True)
            self.model.save_pretrained(part)
            self.fast.save_pretrained(part)
            shutil.rmtree(self.what.out / _BEST, ignore_errors=True)
            part.replace(self.what.out / _BEST)
        self.report(
            "train",
            self.state.epoch / self.what.epochs,
            f"dev {score:.3f}, best {self.state.best:.3f}",
        )

    def _probabilities(self) -> NDArray[np.float64]:
        import torch

        self.model.eval()
        found = np.zeros((len(self.dev), len(self.rows.labels)))
        place = {id(row): i for i, row in enumerate(self.dev)}
        with torch.inference_mode():
            for batch in self._batches(self.dev, 0):
                logits = self.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask
                ).logits.double()
                scores = torch.sigmoid(logits) if self.rows.several else logits.softmax(-1)
                found[[place[id(row)] for row in batch.rows]] = scores.numpy()
        return found

    def _score(self, chance: NDArray[np.float64]) -> float:
        truth = np.array([row.truth for row in self.rows.dev])
        if not self.rows.several:
            return class_figures(truth, chance.argmax(axis=1), chance.shape[1]).macro_recall
        known = []
        for column in range(chance.shape[1]):
            rows = truth[:, column] >= 0
            auc = roc_auc(truth[rows, column], chance[rows, column])
            known += [auc] if auc is not None else []
        return float(np.mean(known)) if known else 0.0

    def _loss(self, logits: Any, rows: Sequence[Any]) -> tuple[Any, dict[str, float]]:
        import torch
        from torch.nn import functional

        target = torch.tensor([row.target for row in rows])
        if self.rows.several:
            known = (target >= 0).float()
            each = functional.binary_cross_entropy_with_logits(
                logits, target.clamp(min=0).float(), reduction="none"
            )
            loss = (each * known).sum() / len(rows)
        else:
            loss = functional.cross_entropy(logits, target)
        return loss, {self.what.task: float(loss.detach())}

    def _batches(self, rows: list[Any], epoch: int) -> Iterator[Any]:
        from models.training.fit import batches_of

        settings = {**self.settings, "seed": self.what.seed + epoch}
        pad = self.model.config.pad_token_id or 0
        return batches_of(rows, self.tokens[id(rows)], pad, settings)

    def _tokens(self, rows: Sequence[Any]) -> list[list[int]]:
        tokenizer = self.fast.backend_tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.what.max_tokens)
        texts = [row.text[: self.what.max_tokens * 16] for row in rows]
        tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        tokenizer.no_truncation()
        return tokens

    def _save_state(self) -> None:
        part = self.what.out / f"{_STATE}.part"
        part.write_text(json.dumps(asdict(self.state)), "utf-8")
        part.replace(self.what.out / _STATE)


def _load_base(what: Training, rows: _Rows) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, _ = fetch(what.base, what.revision)
    try:
        fast = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
        fast.backend_tokenizer  # noqa: B018 - a slow tokenizer has none
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(rows.labels),
            id2label=dict(enumerate(rows.labels)),
            label2id={label: i for i, label in enumerate(rows.labels)},
            problem_type=(
                "multi_label_classification" if rows.several else "single_label_classification"
            ),
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    except Exception as exc:  # whatever torch, safetensors and transformers raise
        raise ModelSourceError(
            f"the base cannot be loaded: {exc}",
            where=str(folder),
            hint="give an encoder's folder with config.json, weights and tokenizer.json",
        ) from exc
    return model, fast


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
