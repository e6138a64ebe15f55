"""The loss of a batch whose rows train different tasks, over logits that lie side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.training.data import CONTRAST, Row, TaskName

_UNKNOWN = -1


class MultiTaskLoss:
    """Cross-entropy for sentiment, masked binary cross-entropy for toxicity, and a teacher's word.

    A row knows the labels of its own task only; what teachers say of it is known of every task.
    Each part is divided by the size of the whole batch, not of the task's share of it: a task with
    three rows in a batch must not weigh as much as one with ninety.

    Args:
        labels: of each task, in the order of the logits.
        rows: all rows of a run; a batch names them by their places.
        settings: `label_weights`, `class_balance`, and where there are teachers `hard_weight` of the
            rows' own labels, `contrast_weight` of those of contrast sentences (default: the same).
        soft: logits of the teachers, shape (rows, width), or None.
        device: where the logits are.
    """

    def __init__(
        self,
        labels: Mapping[TaskName, Sequence[str]],
        rows: Sequence[Row],
        settings: Mapping[str, Any],
        soft: NDArray[np.float16] | None,
        device: torch.device,
    ) -> None:
        self.slices = slices_of(labels)
        kinds = len(labels["toxicity"])
        classes = np.full(len(rows), _UNKNOWN, dtype=np.int64)
        flags = np.full((len(rows), kinds), _UNKNOWN, dtype=np.int8)
        for i, row in enumerate(rows):
            if row.task == "sentiment":
                classes[i] = row.target
            else:
                flags[i] = row.target
        counts = np.bincount(classes[classes >= 0], minlength=len(labels["sentiment"]))
        balance = (np.maximum(counts, 1) / max(counts.mean(), 1)) ** -settings["class_balance"]
        balance /= max((balance * counts).sum() / max(counts.sum(), 1), 1e-9)
        self._classes = torch.from_numpy(classes).to(device)
        self._flags = torch.from_numpy(flags).to(device)
        self._soft = None if soft is None else torch.from_numpy(soft).to(device)
        self._class_weights = torch.from_numpy(balance.astype(np.float32)).to(device)
        self._label_weights = torch.tensor(settings["label_weights"], device=device)
        self._hard = torch.from_numpy(_own_weights(rows, settings, alone=soft is None)).to(device)
        self._device = device

    def __call__(self, logits: Tensor, ids: NDArray[np.int64]) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's loss (a scalar) and its parts."""
        at = torch.from_numpy(ids).to(self._device, non_blocking=True)
        classes, flags = logits[:, self.slices["sentiment"]], logits[:, self.slices["toxicity"]]
        truth, own = self._flags[at], self._hard[at]
        of_class = functional.cross_entropy(
            classes,
            self._classes[at],
            weight=self._class_weights,
            ignore_index=_UNKNOWN,
            reduction="none",
        )
        each = functional.binary_cross_entropy_with_logits(
            flags, truth.clamp(min=0).float(), reduction="none"
        )
        of_flags = (each * (truth >= 0) * self._label_weights).sum(1)
        loss = (own * (of_class + of_flags)).sum() / len(ids)
        seen = {"sentiment": of_class.sum() / len(ids), "toxicity": of_flags.sum() / len(ids)}
        if self._soft is not None:
            said = self._soft[at].float()
            chances = said[:, self.slices["sentiment"]].softmax(1)
            each = functional.binary_cross_entropy_with_logits(
                flags, torch.sigmoid(said[:, self.slices["toxicity"]]), reduction="none"
            )
            seen["teachers"] = -(chances * classes.log_softmax(1)).sum(1).mean() + (
                each * self._label_weights
            ).sum() / len(ids)
            loss = loss + seen["teachers"]
        return loss, {name: value.detach() for name, value in seen.items()}


def _own_weights(
    rows: Sequence[Row], settings: Mapping[str, Any], *, alone: bool
) -> NDArray[np.float32]:
    if alone:
        return np.ones(len(rows), dtype=np.float32)
    usual = settings["hard_weight"]
    written = settings.get("contrast_weight", usual)
    return np.array([written if r.source == CONTRAST else usual for r in rows], dtype=np.float32)


def slices_of(labels: Mapping[TaskName, Sequence[str]]) -> dict[TaskName, slice]:
    """Where each task's logits are."""
    slices: dict[TaskName, slice] = {}
    start = 0
    for task, names in labels.items():
        slices[task] = slice(start, start + len(names))
        start += len(names)
    return slices
