"""Fine-tunes a classifier on the rows of one task; the best epoch on the dev rows is kept.

The invariant: what is in the run's folder is whole at any moment, so that an interrupted run goes
on from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.checkpoint import fetch
from models.errors import ModelSourceError
from models.metrics import class_figures, roc_auc
from models.training.data import Row
from models.training.fit import Run, answers, batches_of, finite
from models.training.task_run import BEST, STATE_FILE, Report, State, TaskRows, Training

_CHECKPOINT_EVERY_S: Final = 300.0


class OneTaskFit:
    """One run: the model in training and its rows as tokens."""

    def __init__(self, what: Training, rows: TaskRows, state: State, report: Report) -> None:
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
        self.run_of = Run(self.model, self.settings, steps, what.out / "checkpoint.pt")

    def run(self) -> State:
        """Train until the epochs are over, or none has been better for a while."""
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
        seen = self.run_of.step(batch, self._loss)
        best = f", best {self.state.best:.3f}" if self.state.best >= 0 else ""
        share = step / (self.steps_an_epoch * self.what.epochs)
        self.report(
            "train",
            share,
            f"epoch {self.state.epoch + 1}, loss {finite(seen['loss'], step):.3f}{best}",
        )

    def _measure(self) -> None:
        """Score the dev rows; the best epoch so far is saved."""
        score = self._score(self._probabilities())
        if score > self.state.best:
            self.state.best, self.state.best_epoch = score, self.state.epoch
            part = self.what.out / f"{BEST}.part"
            shutil.rmtree(part, ignore_errors=True)
            self.model.save_pretrained(part)
            self.fast.save_pretrained(part)
            shutil.rmtree(self.what.out / BEST, ignore_errors=True)
            part.replace(self.what.out / BEST)
        self.report(
            "train",
            self.state.epoch / self.what.epochs,
            f"dev {score:.3f}, best {self.state.best:.3f}",
        )

    def _probabilities(self) -> NDArray[np.float64]:
        self.model.eval()
        found = np.zeros((len(self.dev), len(self.rows.labels)))
        with torch.inference_mode():
            for batch in self._batches(self.dev, 0):
                logits = answers(self.model, batch, self.run_of.device).double()
                scores = torch.sigmoid(logits) if self.rows.several else logits.softmax(-1)
                found[batch.ids] = scores.cpu().numpy()
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

    def _loss(self, logits: Any, ids: NDArray[np.int64]) -> tuple[Any, dict[str, Any]]:
        target = torch.tensor([self.train[i].target for i in ids], device=logits.device)
        if self.rows.several:
            known = (target >= 0).float()
            each = functional.binary_cross_entropy_with_logits(
                logits, target.clamp(min=0).float(), reduction="none"
            )
            loss = (each * known).sum() / len(ids)
        else:
            loss = functional.cross_entropy(logits, target)
        return loss, {"loss": loss.detach()}

    def _batches(self, rows: list[Any], epoch: int) -> Iterator[Any]:
        settings = {**self.settings, "seed": self.what.seed + epoch}
        pad = self.model.config.pad_token_id or 0
        return batches_of(self.tokens[id(rows)], pad, settings)

    def _tokens(self, rows: Sequence[Any]) -> list[list[int]]:
        tokenizer = self.fast.backend_tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.what.max_tokens)
        texts = [row.text[: self.what.max_tokens * 16] for row in rows]
        tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        tokenizer.no_truncation()
        return tokens

    def _save_state(self) -> None:
        part = self.what.out / f"{STATE_FILE}.part"
        part.write_text(json.dumps(asdict(self.state)), "utf-8")
        part.replace(self.what.out / STATE_FILE)


def _load_base(what: Training, rows: TaskRows) -> tuple[Any, Any]:
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
