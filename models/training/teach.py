"""What trained models say of texts, for a smaller one to learn from (knowledge distillation).

The student sees the mean of the teachers' logits for every task, also where a text has no label of
its own; of several teachers with other seeds the mean is better than each (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from models.training.data import Row
from models.training.fit import answers, encode, token_batch, training_device

_BATCH_ROWS = 512


def mean_logits(
    teachers: Sequence[Path],
    rows: Sequence[Row],
    max_tokens: int,
    kept: Path,
    report: Callable[[float, str], None],
) -> NDArray[np.float16]:
    """The teachers' mean logits, shape (rows, logits).

    Args:
        teachers: folders that `fit` wrote, with one tokenizer and the same logits.
        rows: the texts.
        max_tokens: of a text.
        kept: a file for the answer: where it is, it is read instead.
        report: is told the share that is done and a remark.
    """
    if kept.is_file():
        held: NDArray[np.float16] = np.load(kept)
        return held
    tokens = encode(Tokenizer.from_file(str(teachers[0] / "tokenizer.json")), rows, max_tokens)
    total: NDArray[np.float32] | None = None
    for number, folder in enumerate(teachers):
        said = _logits(folder, tokens, partial(_tell, report, number, len(teachers)))
        total = said if total is None else total + said
    if total is None:
        raise ValueError("no teacher")
    mean = (total / len(teachers)).astype(np.float16)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part.npy")
    np.save(part, mean)
    part.replace(kept)
    return mean


def _tell(report: Callable[[float, str], None], number: int, of: int, done: float) -> None:
    report((number + done) / of, f"teacher {number + 1} of {of}")


def _logits(
    folder: Path, tokens: Sequence[Sequence[int]], report: Callable[[float], None]
) -> NDArray[np.float32]:
    device = training_device()
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(device)
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    found = np.empty((len(tokens), model.config.num_labels), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH_ROWS):
            batch = token_batch(
                tokens, order[start : start + _BATCH_ROWS], model.config.pad_token_id
            )
            found[batch.ids] = answers(model, batch, device).cpu().numpy()
            report(start / len(order))
    return found
