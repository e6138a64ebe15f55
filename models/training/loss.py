"""The loss of a batch whose rows train different tasks, over logits that lie side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.training.data import Row, TaskData, TaskName


class MultiTaskLoss:
    """Cross-entropy for the tasks with one answer, masked binary cross-entropy for toxicity.

    Each row's loss is divided by the size of the whole batch, not of the task's part of it: a
    task with three rows in a batch must not weigh as much as one with ninety.
    """

    def __init__(self, data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any]) -> None:
        fit = recipe["fit"]
        self.slices: dict[TaskName, slice] = {}
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
