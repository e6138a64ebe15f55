"""What the tasks' labels are called here, and which of other people's names mean the same.

A name that is not known is an error: a guess would turn a model's answers upside down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from models.errors import ModelSourceError

SENTIMENT: Final = ("negative", "neutral", "positive")
TOXICITY: Final = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_ALIASES: Final = {
    "sentiment": {"neg": "negative", "neu": "neutral", "pos": "positive", "mixed": "neutral"},
    "toxicity": {
        "toxicity": "toxic", "severe_toxicity": "severe_toxic", "identity_hate": "identity_attack",
        "obscenity": "obscene", "hate": "identity_attack", "hate_speech": "identity_attack",
        # The other answer of a model of two: nothing was found.
        "non_toxic": "none", "nontoxic": "none", "not_toxic": "none", "neutral": "none",
        "normal": "none", "non_hate": "none", "not_hate": "none", "nothate": "none", "none": "none",
    },
}  # fmt: skip


def label_names(task: str, names: Sequence[str], *, where: str) -> list[str]:
    """A model's own label names as the task has them; of a task that is not known as they are.

    Raises:
        ModelSourceError: a name is not one of the task's, or two mean the same.
    """
    if task == "language":
        wrong = [name for name in names if not _LANGUAGE.fullmatch(name)]
        if wrong:
            raise _mismatch(task, wrong, "codes such as `en`, `pt` or `zh-Hant`", where)
        return list(names)
    known = {"sentiment": (*SENTIMENT,), "toxicity": (*TOXICITY, "none")}.get(task)
    if known is None:
        return list(names)
    plain = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names]
    labels = [_ALIASES[task].get(name, name) for name in plain]
    wrong = [name for name, label in zip(names, labels, strict=True) if label not in known]
    if wrong:
        raise _mismatch(task, wrong, ", ".join(f"`{label}`" for label in known), where)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ModelSourceError(f"two of the model's labels mean `{twice}`", where=where)
    return labels


def _mismatch(task: str, wrong: Sequence[str], known: str, where: str) -> ModelSourceError:
    few = ", ".join(f"`{name}`" for name in wrong[:4]) + (", ..." if len(wrong) > 4 else "")
    return ModelSourceError(
        f"the labels do not match the task `{task}`: {few}",
        where=where,
        hint=f"its labels are {known}; name the model's logits in their order with `--labels A,B,C` "
        "(its card says what each means), or choose another `--task`",
    )
