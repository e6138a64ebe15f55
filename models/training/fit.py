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
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification

from models.errors import ModelBuildError
from models.training.data import Row, TaskData, TaskName, cap_sources, cut_short, draw_epochs

_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_EVERY_S = 300.0
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
    """The rows one run sees, in no order: capped, repeated by epochs, cut and lower-cased."""
    fit = recipe["fit"]
    rows: list[Row] = []
    for task, task_data in data.items():
        drawn = cap_sources(task_data.rows, fit[task].get("caps", {}), rng)
        for row in draw_epochs(drawn, fit[task]["epochs"], rng):
            text = row.text
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


class MultiTaskLoss:
    """Cross-entropy for the tasks with one answer, masked binary cross-entropy for toxicity.

    Each row's loss is divided by the size of the whole batch, not of the task's part of it: a
    task with three rows in a batch must not weigh as much as one with ninety.
    """

    def __init__(self, data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any]) -> None:
        fit = recipe["fit"]
        self.slices: dict[str, slice] = {}
        start = 0
        for task, task_data in data.items():
            self.slices[task] = slice(start, start + len(task_data.labels))
            start += len(task_data.labels)
        self.width = start
        self.weights = {task: float(fit[task]["weight"]) for task in data}
        self.label_weights = torch.tensor(fit["toxicity"]["label_weights"])
        counts = torch.zeros(len(data["sentiment"].labels))
        for row in data["sentiment"].rows:
            counts[row.target] += 1
        balance = (counts / counts.mean()) ** -float(fit["sentiment"]["class_balance"])
        self.class_weights = balance / ((balance * counts).sum() / counts.sum())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor, dict[str, float]]:
        """The batch's loss (a scalar) and the mean loss per row of each task present."""
        total = logits.new_zeros(())
        seen: dict[str, float] = {}
        for task, columns in self.slices.items():
            ids = [i for i, row in enumerate(rows) if row.task == task]
            if not ids:
                continue
            part = logits[ids][:, columns]
            target = torch.tensor([rows[i].target for i in ids])
            if task == "toxicity":
                known = (target >= 0).float() * self.label_weights
                loss = functional.binary_cross_entropy_with_logits(
                    part, target.clamp(min=0).float(), reduction="none"
                )
                summed = (loss * known).sum()
            else:
                weight = self.class_weights if task == "sentiment" else None
                summed = functional.cross_entropy(part, target, weight=weight, reduction="sum")
            seen[task] = float(summed.detach()) / len(ids)
            total = total + self.weights[task] * summed / len(rows)
        return total, seen


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


def fit(
    base: Path,
    out: Path,
    data: Mapping[TaskName, TaskData],
    recipe: Mapping[str, Any],
    report: Callable[[Progress], None],
) -> None:
    """Fine-tune `base` (a folder) on `data` and write the model to `out`.

    On a CPU with bfloat16 instructions the matrix products run in bfloat16, the weights stay
    float32.

    Raises:
        ModelBuildError: the loss is not a number any more.
    """
    settings = recipe["fit"]
    torch.manual_seed(settings["seed"])
    rng = random.Random(settings["seed"])
    loss_of = MultiTaskLoss(data, recipe)
    rows = training_rows(data, recipe, rng)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokens = _encode(tokenizer, rows, settings["max_tokens"])

    config = AutoConfig.from_pretrained(
        base,
        num_labels=loss_of.width,
        problem_type="multi_label_classification",
        hidden_dropout_prob=settings["hidden_dropout"],
        attention_probs_dropout_prob=settings["attention_dropout"],
        classifier_dropout=settings["classifier_dropout"],
        attn_implementation=settings["attention"],
    )
    config.id2label = {
        loss_of.slices[task].start + i: f"{task}/{label}"
        for task, task_data in data.items()
        for i, label in enumerate(task_data.labels)
    }
    config.label2id = {label: i for i, label in config.id2label.items()}
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    if settings["freeze_word_embeddings"]:
        model.get_input_embeddings().weight.requires_grad_(requires_grad=False)
    model.train()
    optimizer = _optimizer(model, settings)
    steps = math.ceil(len(rows) / settings["batch_rows"])

    def rate(step: int) -> float:
        warm = settings["warmup_steps"]
        return step / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step + 1))
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / _CHECKPOINT
    done = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["step"]
    bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    average: dict[str, float] = {}
    saved_at = window_at = time.monotonic()
    window_rows = 0
    pad = config.pad_token_id
    for step, batch in enumerate(batches_of(rows, tokens, pad, settings), 1):
        if step <= done:
            continue
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        loss, seen = loss_of(logits.float(), batch.rows)
        if not torch.isfinite(loss):
            raise ModelBuildError(
                f"the loss is `{float(loss)}` at step {step}",
                hint="lower learning_rate or raise warmup_steps in the recipe",
            )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        for task, value in seen.items():
            average[task] = 0.98 * average.get(task, value) + 0.02 * value
        window_rows += len(batch.rows)
        now = time.monotonic()
        if step % 20 == 0 or step == steps:
            report(Progress(step, steps, window_rows / max(now - window_at, 1e-9), average))
            window_rows, window_at = 0, now
        if now - saved_at > _CHECKPOINT_EVERY_S:
            part = checkpoint.with_suffix(".part")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step,
                },
                part,
            )
            part.replace(checkpoint)
            saved_at = now
    model.eval()
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((base / name).read_bytes())
    (out / "labels.json").write_text(
        json.dumps({task: task_data.labels for task, task_data in data.items()}, indent=1), "utf-8"
    )
    checkpoint.unlink(missing_ok=True)
