"""Fine-tune one encoder on several tasks at once; the logits of the tasks lie side by side.

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
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from models.errors import ModelBuildError
from models.training.base import layers_to_keep
from models.training.data import Row, TaskName
from models.training.loss import MultiTaskLoss, slices_of

LABELS_FILE: Final = "labels.json"
_CHECKPOINT = "checkpoint.pt"
_CHECKPOINT_EVERY_S = 300.0
_REPORT_EVERY = 20
_PARTS_WITH_HEAD_RATE = ("classifier", "pooler")
_WORDS = "word_embeddings"

#: The loss of a batch's logits, given the places of its rows, and the parts to report.
LossOf = Callable[[Tensor, NDArray[np.int64]], tuple[Tensor, Mapping[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `loss` is a moving average of each part."""

    step: int
    steps: int
    rows_per_s: float
    loss: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Some rows of a run: `ids` are their places, the tensors are of shape (rows, tokens)."""

    input_ids: Tensor
    attention_mask: Tensor
    ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stage:
    """What one run learns from, and how.

    Args:
        rows: what is learnt, in no order.
        labels: of each task, in the order of the logits.
        settings: section `fit` of the recipe with what the stage says otherwise.
        soft: what teachers say of each row, shape (rows, logits); None: labels alone.
    """

    rows: Sequence[Row]
    labels: Mapping[TaskName, Sequence[str]]
    settings: Mapping[str, Any]
    soft: NDArray[np.float16] | None = None


def training_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batches_of(
    tokens: Sequence[Sequence[int]], pad: int, settings: Mapping[str, Any]
) -> Iterator[TokenBatch]:
    """Length-sorted batches in random order; deterministic for a seed, so a run can be resumed."""
    rng = random.Random(settings["seed"])
    order = list(range(len(tokens)))
    rng.shuffle(order)
    size: int = settings["batch_rows"]
    chunk = size * settings["sort_chunk_batches"]
    for start in range(0, len(order), chunk):
        part = sorted(order[start : start + chunk], key=lambda i: len(tokens[i]))
        cuts = list(range(0, len(part), size))
        rng.shuffle(cuts)
        for cut in cuts:
            yield token_batch(tokens, part[cut : cut + size], pad)


def token_batch(tokens: Sequence[Sequence[int]], ids: Sequence[int], pad: int) -> TokenBatch:
    """The rows `ids`, padded to the longest of them."""
    longest = max(len(tokens[i]) for i in ids)
    padded = np.full((len(ids), longest), pad, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for line, i in enumerate(ids):
        padded[line, : len(tokens[i])] = tokens[i]
        mask[line, : len(tokens[i])] = 1
    return TokenBatch(torch.from_numpy(padded), torch.from_numpy(mask), np.array(ids))


def _optimizer(
    model: nn.Module, settings: Mapping[str, Any], *, fused: bool
) -> torch.optim.Optimizer:
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if _WORDS in name:
            rate = "word_learning_rate"
        elif any(part in name for part in _PARTS_WITH_HEAD_RATE):
            rate = "head_learning_rate"
        else:
            rate = "learning_rate"
        # A word that a batch does not have must not fade.
        groups.setdefault((rate, parameter.ndim > 1 and _WORDS not in name), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": settings.get(rate, settings["learning_rate"]),
                "weight_decay": settings["weight_decay"] if decay else 0.0,
            }
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
        fused=fused,
    )


def encode(tokenizer: Tokenizer, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """The tokens of each row, cut at `max_tokens`."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    tokens: list[list[int]] = []
    for start in range(0, len(rows), 10_000):
        part = [row.text[: max_tokens * 16] for row in rows[start : start + 10_000]]
        tokens.extend(encoding.ids for encoding in tokenizer.encode_batch_fast(part))
    return tokens


def _label_names(labels: Mapping[TaskName, Sequence[str]]) -> dict[int, str]:
    slices = slices_of(labels)
    return {
        slices[task].start + i: f"{task}/{label}"
        for task, names in labels.items()
        for i, label in enumerate(names)
    }


def _load(base: Path, names: Mapping[int, str], settings: Mapping[str, Any]) -> nn.Module:
    """The base with a classifier of `names` logits, in training mode.

    Of its layers `layers` are kept where that is said, evenly spaced. Where the base is a model of
    ours, its classifier's rows of the same names are kept.
    """
    config = AutoConfig.from_pretrained(
        base,
        num_labels=len(names),
        problem_type="multi_label_classification",
        hidden_dropout_prob=settings["hidden_dropout"],
        attention_probs_dropout_prob=settings["attention_dropout"],
        classifier_dropout=settings["classifier_dropout"],
        # 1.4 times the speed of "sdpa" on a CPU at these lengths (its backward pass).
        attn_implementation="sdpa" if training_device().type == "cuda" else "eager",
    )
    config.id2label = dict(names)
    config.label2id = {label: i for i, label in names.items()}
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base, config=config, ignore_mismatched_sizes=True
    )
    _keep_classifier(model, base, names)
    if "layers" in settings:
        stack = model.bert.encoder.layer
        kept = layers_to_keep(len(stack), settings["layers"])
        model.bert.encoder.layer = type(stack)(stack[i] for i in kept)
        model.config.num_hidden_layers = len(kept)
    words = model.get_input_embeddings().weight
    words.requires_grad_(requires_grad=settings["word_learning_rate"] > 0)
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


def answers(model: nn.Module, batch: TokenBatch, device: torch.device) -> Tensor:
    """The model's logits for a batch, float32 on `device`; the products in bfloat16 where it can."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_has_bfloat16(device)):
        logits = model(
            input_ids=batch.input_ids.to(device, non_blocking=True),
            attention_mask=batch.attention_mask.to(device, non_blocking=True),
        ).logits
    found: Tensor = logits.float()
    return found


@cache
def _has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices by itself; torch says it of no CPU in public."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


class Run:
    """The model in training with what moves it; can be put down and taken up again.

    Args:
        model: in training mode; it moves to the training device.
        settings: section `fit` of the recipe.
        steps: of the whole run; the learning rate falls to 0 at the last.
        checkpoint: the file to take up, if it is there, and to write.
    """

    def __init__(
        self, model: nn.Module, settings: Mapping[str, Any], steps: int, checkpoint: Path
    ) -> None:
        self.device = training_device()
        self.model = model.to(self.device)
        self.settings = settings
        self.checkpoint = checkpoint
        self.optimizer = _optimizer(model, settings, fused=True)
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
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
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

    def step(self, batch: TokenBatch, loss_of: LossOf) -> Mapping[str, Tensor]:
        """Learn from one batch; returns the parts of its loss, still on the device."""
        loss, seen = loss_of(answers(self.model, batch, self.device), batch.ids)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings["clip_norm"])
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return seen


def finite(loss: Tensor, step: int) -> float:
    """The loss as a number.

    Raises:
        ModelBuildError: it is none any more.
    """
    value = float(loss)
    if not math.isfinite(value):
        raise ModelBuildError(
            f"the loss is not a number at step {step}",
            hint="lower the learning rate or warm up for longer",
        )
    return value


class _Watch:
    """Turns steps into reports: moving averages of the losses, rows a second.

    Nothing is read from the device between reports: a GPU would wait for the host each time.
    """

    def __init__(self, steps: int, report: Callable[[Progress], None]) -> None:
        self._steps = steps
        self._report = report
        self._average: dict[str, Tensor] = {}
        self._rows = 0
        self._since = time.monotonic()

    def saw(self, step: int, rows: int, seen: Mapping[str, Tensor]) -> None:
        """One step is done.

        Raises:
            ModelBuildError: the loss is not a number any more.
        """
        for part, value in seen.items():
            self._average[part] = torch.lerp(self._average.get(part, value), value, 0.02)
        self._rows += rows
        if step % _REPORT_EVERY and step != self._steps:
            return
        loss = {part: finite(value, step) for part, value in self._average.items()}
        now = time.monotonic()
        rows_per_s = self._rows / max(now - self._since, 1e-9)
        self._report(Progress(step, self._steps, rows_per_s, loss))
        self._rows, self._since = 0, now


def fit(base: Path, out: Path, stage: Stage, report: Callable[[Progress], None]) -> None:
    """Fine-tune `base` (a folder) on the rows of `stage` and write the model to `out`.

    On a GPU, and on a CPU with bfloat16 instructions, the matrix products run in bfloat16; the
    weights stay float32. `labels.json` is written last: where it is, the model beside it is whole.

    Raises:
        ModelBuildError: the loss is not a number any more.
    """
    if (out / LABELS_FILE).is_file():
        return
    settings = stage.settings
    torch.manual_seed(settings["seed"])
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokens = encode(tokenizer, stage.rows, settings["max_tokens"])
    model: Any = _load(base, _label_names(stage.labels), settings)
    steps = math.ceil(len(tokens) / settings["batch_rows"])
    steps = min(steps, settings.get("steps", steps))
    out.mkdir(parents=True, exist_ok=True)
    run = Run(model, settings, steps, out / _CHECKPOINT)
    loss_of = MultiTaskLoss(stage.labels, stage.rows, settings, stage.soft, run.device)
    done = run.resume()
    watch = _Watch(steps, report)
    saved_at = time.monotonic()
    batches = batches_of(tokens, model.config.pad_token_id, settings)
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        if step <= done:
            continue
        watch.saw(step, len(batch.ids), run.step(batch, loss_of))
        if time.monotonic() - saved_at > _CHECKPOINT_EVERY_S:
            run.save(step)
            saved_at = time.monotonic()
    model.eval().to("cpu")
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((base / name).read_bytes())
    labels = {task: list(names) for task, names in stage.labels.items()}
    (out / LABELS_FILE).write_text(json.dumps(labels, indent=1), "utf-8")
    run.checkpoint.unlink(missing_ok=True)
