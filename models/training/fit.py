"""Fine-tune one encoder on three tasks at once; the logits of the tasks lie side by side.

The result is a plain `BertForSequenceClassification`: any exporter knows it, and the manifest
says which slice of the logits is which task. A row trains its own task only, so the sets need no
common labels. Checkpoints are written while it runs; the same command goes on from the last one.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from models.errors import ModelBuildError
from models.training.contrast.perturb import perturb
from models.training.data import Row, TaskData, TaskName, cap_sources, cut_short, draw_epochs
from models.training.loss import MultiTaskLoss

_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_EVERY_S = 300.0
_REPORT_EVERY = 20
_PARTS_WITH_HEAD_RATE = ("classifier", "pooler")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `loss` is a moving average per task."""

    step: int
    steps: int
    rows_per_s: float
    loss: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Batch:
    input_ids: Tensor
    attention_mask: Tensor
    rows: Sequence[Row]


def training_rows(
    data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any], rng: random.Random
) -> list[Row]:
    """The rows one run sees, in no order: capped, repeated by epochs, cut, lower-cased, misspelt."""
    fit = recipe["fit"]
    rows: list[Row] = []
    for task, task_data in data.items():
        drawn = cap_sources(task_data.rows, fit[task].get("caps", {}), rng)
        by_source = fit[task].get("source_epochs", {})
        for row in draw_epochs(drawn, fit[task]["epochs"], rng, by_source):
            text = row.text
            if task == "toxicity" and rng.random() < fit.get("disguised_share", 0.0):
                text = perturb(text, rng, cased=text.lower() != text.upper())
            if task == "language":
                if rng.random() < fit[task]["cut_share"]:
                    text = cut_short(text, row.lang, rng)
            elif rng.random() < fit["lowercase_share"]:
                text = text.lower()
            rows.append(Row(task, text, row.source, row.lang, row.target))
    return rows


def batches_of(
    rows: Sequence[Row], tokens: Sequence[Sequence[int]], pad: int, fit: Mapping[str, Any]
) -> Iterator[_Batch]:
    """Length-sorted batches in random order; deterministic for a seed, so a run can be resumed."""
    rng = random.Random(fit["seed"])
    order = list(range(len(rows)))
    rng.shuffle(order)
    size: int = fit["batch_rows"]
    chunk = size * fit["sort_chunk_batches"]
    for start in range(0, len(order), chunk):
        part = sorted(order[start : start + chunk], key=lambda i: len(tokens[i]))
        cuts = list(range(0, len(part), size))
        rng.shuffle(cuts)
        for cut in cuts:
            ids = part[cut : cut + size]
            longest = max(len(tokens[i]) for i in ids)
            padded = np.full((len(ids), longest), pad, dtype=np.int64)
            mask = np.zeros((len(ids), longest), dtype=np.int64)
            for line, i in enumerate(ids):
                padded[line, : len(tokens[i])] = tokens[i]
                mask[line, : len(tokens[i])] = 1
            yield _Batch(torch.from_numpy(padded), torch.from_numpy(mask), [rows[i] for i in ids])


def _optimizer(model: nn.Module, fit: Mapping[str, Any]) -> torch.optim.Optimizer:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        head = any(part in name for part in _PARTS_WITH_HEAD_RATE)
        decay = parameter.ndim > 1
        groups.setdefault((head, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": fit["head_learning_rate"] if head else fit["learning_rate"],
                "weight_decay": fit["weight_decay"] if decay else 0.0,
            }
            for (head, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
        fused=True,
    )


def _encode(tokenizer: Tokenizer, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    tokenizer.enable_truncation(max_tokens)
    tokens: list[list[int]] = []
    for start in range(0, len(rows), 10_000):
        part = [row.text[: max_tokens * 16] for row in rows[start : start + 10_000]]
        tokens.extend(encoding.ids for encoding in tokenizer.encode_batch_fast(part))
    return tokens


def _label_names(
    slices: Mapping[TaskName, slice], data: Mapping[TaskName, TaskData]
) -> dict[int, str]:
    return {
        slices[task].start + i: f"{task}/{label}"
        for task, task_data in data.items()
        for i, label in enumerate(task_data.labels)
    }


def _load(base: Path, names: Mapping[int, str], settings: Mapping[str, Any]) -> nn.Module:
    """The base with a classifier of `names` logits, in training mode.

    Where the base is a model of ours, its classifier's rows of the same names are kept.
    """
    config = AutoConfig.from_pretrained(
        base,
        num_labels=len(names),
        problem_type="multi_label_classification",
        hidden_dropout_prob=settings["hidden_dropout"],
        attention_probs_dropout_prob=settings["attention_dropout"],
        classifier_dropout=settings["classifier_dropout"],
        attn_implementation=settings["attention"],
    )
    config.id2label = dict(names)
    config.label2id = {label: i for i, label in names.items()}
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base, config=config, ignore_mismatched_sizes=True
    )
    _keep_classifier(model, base, names)
    if settings["freeze_word_embeddings"]:
        model.get_input_embeddings().weight.requires_grad_(requires_grad=False)
    trained: nn.Module = model.train()
    return trained


def _keep_classifier(model: Any, base: Path, names: Mapping[int, str]) -> None:
    weights = base / "model.safetensors"
    known = AutoConfig.from_pretrained(base).label2id or {}
    rows = [(i, known[name]) for i, name in names.items() if name in known]
    if not rows or not weights.is_file():
        return
    with safe_open(weights, "pt") as held:
        if "classifier.weight" not in held.keys():  # noqa: SIM118 - not a mapping
            return
        old_w, old_b = held.get_tensor("classifier.weight"), held.get_tensor("classifier.bias")
    new, old = (list(part) for part in zip(*rows, strict=True))
    with torch.no_grad():
        model.classifier.weight[new] = old_w[old]
        model.classifier.bias[new] = old_b[old]


def _has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices by itself; torch says it nowhere in public."""
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


class Run:
    """The model in training with what moves it; can be put down and taken up again.

    Args:
        model: in training mode.
        settings: section `fit` of the recipe.
        steps: of the whole run; the learning rate falls to 0 at the last.
        checkpoint: the file to take up, if it is there, and to write.
    """

    def __init__(
        self, model: nn.Module, settings: Mapping[str, Any], steps: int, checkpoint: Path
    ) -> None:
        self.model = model
        self.settings = settings
        self.checkpoint = checkpoint
        self.optimizer = _optimizer(model, settings)
        self._bf16 = _has_bfloat16()
        warm: int = settings["warmup_steps"]

        def rate(step: int) -> float:
            return step / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate(step + 1)
        )

    def resume(self) -> int:
        """Take up the checkpoint; returns how many steps are done."""
        if not self.checkpoint.is_file():
            return 0
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write the checkpoint; the old one stays until the new one is whole."""
        part = self.checkpoint.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": step,
            },
            part,
        )
        part.replace(self.checkpoint)

    def step(self, batch: _Batch, loss_of: MultiTaskLoss, number: int) -> dict[str, float]:
        """Learn from one batch; returns the mean loss of each task present."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            logits = self.model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask
            ).logits
        loss, seen = loss_of(logits.float(), batch.rows)
        if not torch.isfinite(loss):
            raise ModelBuildError(
                f"the loss is `{float(loss)}` at step {number}",
                hint="lower learning_rate or raise warmup_steps in the recipe",
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_norm"])
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return seen


class _Watch:
    """Turns steps into reports: moving averages of the losses, rows a second."""

    def __init__(self, steps: int, report: Callable[[Progress], None]) -> None:
        self._steps = steps
        self._report = report
        self._average: dict[str, float] = {}
        self._rows = 0
        self._since = time.monotonic()

    def saw(self, step: int, rows: int, seen: Mapping[str, float]) -> None:
        """One step is done."""
        for task, value in seen.items():
            self._average[task] = 0.98 * self._average.get(task, value) + 0.02 * value
        self._rows += rows
        if step % _REPORT_EVERY == 0 or step == self._steps:
            now = time.monotonic()
            rows_per_s = self._rows / max(now - self._since, 1e-9)
            self._report(Progress(step, self._steps, rows_per_s, self._average))
            self._rows, self._since = 0, now


def fit(
    base: Path,
    out: Path,
    data: Mapping[TaskName, TaskData],
    recipe: Mapping[str, Any],
    report: Callable[[Progress], None],
) -> None:
    """Fine-tune `base` (a folder) on `data` and write the model to `out`.

    On a CPU with bfloat16 instructions the matrix products run in bfloat16, the weights stay
    float32. `labels.json` is written last: where it is, the model beside it is whole.

    Raises:
        ModelBuildError: the loss is not a number any more.
    """
    settings = recipe["fit"]
    if (out / "labels.json").is_file():
        return
    torch.manual_seed(settings["seed"])
    loss_of = MultiTaskLoss(data, recipe)
    rows = training_rows(data, recipe, random.Random(settings["seed"]))
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokens = _encode(tokenizer, rows, settings["max_tokens"])
    model: Any = _load(base, _label_names(loss_of.slices, data), settings)
    steps = math.ceil(len(rows) / settings["batch_rows"])
    out.mkdir(parents=True, exist_ok=True)
    run = Run(model, settings, steps, out / _CHECKPOINT)
    done = run.resume()
    watch = _Watch(steps, report)
    saved_at = time.monotonic()
    for step, batch in enumerate(batches_of(rows, tokens, model.config.pad_token_id, settings), 1):
        if step <= done:
            continue
        watch.saw(step, len(batch.rows), run.step(batch, loss_of, step))
        if time.monotonic() - saved_at > _CHECKPOINT_EVERY_S:
            run.save(step)
            saved_at = time.monotonic()
    model.eval()
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((base / name).read_bytes())
    (out / "labels.json").write_text(
        json.dumps({task: task_data.labels for task, task_data in data.items()}, indent=1), "utf-8"
    )
    run.checkpoint.unlink(missing_ok=True)
