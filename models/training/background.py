"""Teach the toxicity head what ordinary text looks like, after the fine-tuning.

The toxicity sets are half abuse and all of a few platforms: of sentences from elsewhere (a proverb,
a diary, a train announcement) the fine-tuned head calls most something. Here the encoder stays as it
is, and the head's rows of the classifier, a linear layer over the pooled text, are fitted once more
with such sentences beside the toxicity rows, as not toxic. The other heads do not change by a bit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from models.training.data import Row, TaskData, TaskName, cap_sources
from models.training.loss import MultiTaskLoss

_BATCH = 96
#: More characters than this never fit into the tokens that are read.
_CHARS_PER_TOKEN = 20


def background_rows(
    data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any], rng: random.Random
) -> list[Row]:
    """Texts that are not abuse as far as anyone knows: sentences, and posts that are positive."""
    settings = recipe["background"]
    positive = data["sentiment"].labels.index("positive")
    posts = [row for row in data["sentiment"].rows if row.target == positive]
    sentences = data["language"].rows
    return [
        *rng.sample(sentences, min(settings["language_rows"], len(sentences))),
        *rng.sample(posts, min(settings["positive_rows"], len(posts))),
    ]


def _pooled(
    model: Any,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    max_tokens: int,
    done: Callable[[int], None],
) -> Tensor:
    """What the classifier reads of each text, shape (rows, hidden)."""
    tokenizer.enable_truncation(max_tokens)
    texts = [row.text[: max_tokens * _CHARS_PER_TOKEN] for row in rows]
    tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    pooled = torch.empty(len(rows), model.config.hidden_size)
    order = sorted(range(len(rows)), key=lambda i: len(tokens[i]))
    for start in range(0, len(order), _BATCH):
        ids = order[start : start + _BATCH]
        longest = max(len(tokens[i]) for i in ids)
        padded = torch.full((len(ids), longest), model.config.pad_token_id)
        mask = torch.zeros_like(padded)
        for line, i in enumerate(ids):
            padded[line, : len(tokens[i])] = torch.tensor(tokens[i])
            mask[line, : len(tokens[i])] = 1
        pooled[ids] = model.bert(input_ids=padded, attention_mask=mask).pooler_output.float()
        done(len(ids))
    return pooled


def refit_toxicity(
    folder: Path,
    data: Mapping[TaskName, TaskData],
    recipe: Mapping[str, Any],
    report: Callable[[float], None],
) -> int:
    """Fit the toxicity rows of the classifier in `folder` again, with background; saved in place.

    Returns the number of background rows. The minimum of the convex loss is found by L-BFGS; the
    head is held near where fine-tuning left it by `l2` on the squared distance.
    """
    settings, fit = recipe["background"], recipe["fit"]
    rng = random.Random(fit["seed"])
    toxicity = cap_sources(data["toxicity"].rows, fit["toxicity"].get("caps", {}), rng)
    known_rows = rng.sample(toxicity, min(settings["toxicity_rows"], len(toxicity)))
    background = background_rows(data, recipe, rng)
    rows = [*known_rows, *background]

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    seen = 0

    def done(count: int) -> None:
        nonlocal seen
        seen += count
        report(seen / len(rows))

    bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - the only way to ask
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        inputs = _pooled(model, tokenizer, rows, fit["max_tokens"], done)
    inputs = inputs.clone()  # out of inference mode

    labels = len(data["toxicity"].labels)
    target = torch.zeros(len(rows), labels)
    target[: len(known_rows)] = torch.tensor([row.target for row in known_rows]).float()
    weight = torch.ones(len(rows), 1)
    weight[len(known_rows) :] = float(settings["weight"])
    weight = weight * (target >= 0) * torch.tensor(fit["toxicity"]["label_weights"])

    columns = MultiTaskLoss(data, recipe).slices["toxicity"]
    before_w = model.classifier.weight.detach()[columns].clone()
    w = before_w.clone().requires_grad_()
    b = model.classifier.bias.detach()[columns].clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [w, b], max_iter=settings["iterations"], line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = functional.binary_cross_entropy_with_logits(
            inputs @ w.T + b, target.clamp(min=0), weight=weight, reduction="sum"
        )
        loss: Tensor = losses / len(rows) + settings["l2"] * (w - before_w).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        model.classifier.weight[columns] = w
        model.classifier.bias[columns] = b
    model.save_pretrained(folder)
    return len(background)
