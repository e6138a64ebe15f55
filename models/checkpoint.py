"""Reads a PyTorch classifier: from the Hub or a folder to files on disk, its labels to heads.

Code that comes with a model is never run (`trust_remote_code` is never set), and a model that
lacks a part is refused rather than filled with random numbers. Needs the extra `models`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from models.errors import ModelSourceError
from models.labels import label_names
from models.manifest import LANGUAGE_TASK, Head, Source

Activation = Literal["softmax", "sigmoid"]

#: More tokens than this of a post are not read by default; longer posts are scored in windows.
DEFAULT_MAX_TOKENS: Final = 512
#: A tokenizer without a limit of its own says something like 1e30.
_NO_LIMIT: Final = 1_000_000
#: The first rows of these architectures' position tables are not positions.
_OFFSET_POSITIONS: Final = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"})
_SMALL_FILES: Final = ["*.json", "*.txt", "*.model", "README.md"]
_TOKENIZER_FILES: Final = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_HUB_ID: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A classifier on disk; `heads` cover its logits, thresholds are 0.5 until they are measured."""

    folder: Path
    source: Source
    architecture: str
    heads: dict[str, Head]
    max_tokens: int
    pad_id: int
    licence: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says about a model where it does not say it itself.

    Args:
        task: of a model with one head.
        labels: in the order of the logits; default: the model's own.
        activation: default: by the model's `problem_type` and labels.
        heads: several heads, `task` to (first logit, one after the last).
        max_tokens: default: what the model reads, at most `DEFAULT_MAX_TOKENS`.
        licence: default: what the model's README says.
    """

    task: str | None = None
    labels: Sequence[str] | None = None
    activation: Activation | None = None
    heads: Mapping[str, tuple[int, int]] | None = None
    max_tokens: int | None = None
    licence: str | None = None


def fetch(source: str, revision: str | None = None) -> tuple[Path, Source]:
    """The folder of a model, downloaded where `source` is a Hub id, and where it is from.

    Raises:
        ModelSourceError: there is no such folder or model, or it cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder, Source(id=str(folder.resolve()), revision=revision)
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise ModelSourceError(
            f"`{source}` is neither a folder nor a Hub id",
            hint="a Hub id is like `cardiffnlp/twitter-xlm-roberta-base-sentiment`",
        )
    need_extra()
    from huggingface_hub import snapshot_download

    def download(patterns: list[str]) -> Path:
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))

    try:
        found = download([*_SMALL_FILES, "model*.safetensors"])
        if not any(found.glob("*.safetensors")):
            # Older models have pickled weights; transformers reads tensors from them and no code.
            found = download([*_SMALL_FILES, "pytorch_model*.bin"])
    except Exception as exc:  # requests', huggingface_hub's and the file system's own
        offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in {"1", "true", "yes", "on"}
        why = "`HF_HUB_OFFLINE` is set and it is not in the cache" if offline else _brief(exc)
        raise ModelSourceError(
            f"cannot get `{source}` from the Hub: {why}",
            hint="on a machine without network give a folder: `hf download ID --local-dir DIR` "
            "fills one elsewhere; a private model needs `hf auth login`",
        ) from exc
    return found, Source(id=source, revision=found.name)


def read_checkpoint(folder: Path, source: Source, asked: Asked) -> Checkpoint:
    """What the model in `folder` is and which heads it has; its weights are not loaded.

    Raises:
        ModelSourceError: a part is missing, it is no classifier, or its labels are not the task's.
    """
    config = _config(folder)
    tokenizer = _settings(folder / "tokenizer_config.json")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelSourceError(
            "no tokenizer beside the model",
            where=str(folder),
            hint="copy `tokenizer.json` (or the vocabulary files) of the model it was trained from",
        )
    architecture = str(config.get("model_type", ""))
    pad_id = int(config.get("pad_token_id") or 0)
    window = _window(config, tokenizer, architecture, pad_id)
    if asked.max_tokens is not None and asked.max_tokens > window:
        raise ModelSourceError(
            f"the model reads {window} tokens, not {asked.max_tokens}", where=str(folder)
        )
    return Checkpoint(
        folder=folder,
        source=source,
        architecture=architecture,
        heads=_heads(folder, config, asked),
        max_tokens=asked.max_tokens or min(window, DEFAULT_MAX_TOKENS),
        pad_id=pad_id,
        licence=asked.licence or _licence(folder),
    )


def load_classifier(checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The PyTorch model, ready to answer, and its fast tokenizer.

    Raises:
        ModelSourceError: it cannot be loaded, or not all of its weights are there.
    """
    need_extra()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    where = str(checkpoint.folder)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            checkpoint.folder, trust_remote_code=False, output_loading_info=True
        )
    except Exception as exc:  # whatever torch, safetensors and transformers raise
        raise ModelSourceError(
            f"the model cannot be loaded: {_brief(exc)}",
            where=where,
            hint="its config.json and its weights must belong together and be whole",
        ) from exc
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelSourceError(
            f"the weights lack `{missing[0]}`"
            + (f" and {len(missing) - 1} more" * (len(missing) > 1)),
            where=where,
            hint="this is the encoder alone, not yet a classifier: `tidegate models train` makes one",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, use_fast=True, trust_remote_code=False
        )
        tokenizer.backend_tokenizer  # noqa: B018 - a slow tokenizer has none
    except Exception as exc:  # as above, and AttributeError of a slow one
        raise ModelSourceError(
            f"the tokenizer cannot be loaded as a fast one: {_brief(exc)}",
            where=where,
            hint="save it once as `tokenizer.json` where its own package is installed",
        ) from exc
    return model.eval(), tokenizer


def need_extra() -> None:
    """Raises ModelSourceError where the extra `models` is not installed."""
    try:
        import optimum.exporters.onnx  # noqa: F401 - asked for its presence
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as exc:
        raise ModelSourceError(
            f"this needs a package that is not installed: {exc.name}",
            hint="`pip install 'tidegate[models]'`",
        ) from exc


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelSourceError(
            "no `config.json`: this is not a model's folder",
            where=str(folder),
            hint="give the folder that `save_pretrained` wrote, or a Hub id",
        )
    config = _settings(path)
    kinds = config.get("architectures") or []
    if "auto_map" in config and not _is_known(config):
        raise ModelSourceError(
            "the model brings code of its own, which is never run here",
            where=str(path),
            hint="take one whose architecture is part of transformers",
        )
    if kinds and not any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
        raise ModelSourceError(
            f"`{kinds[0]}` is not a text classifier",
            where=str(path),
            hint="take a `text-classification` model, or fine-tune this one: `tidegate models train`",
        )
    return config


def _is_known(config: Mapping[str, Any]) -> bool:
    """Whether transformers has this architecture itself."""
    need_extra()
    from transformers import CONFIG_MAPPING

    return config.get("model_type") in CONFIG_MAPPING


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelSourceError(f"not JSON: {exc}", where=str(path)) from exc
    return values if isinstance(values, dict) else {}


def _window(
    config: Mapping[str, Any], tokenizer: Mapping[str, Any], architecture: str, pad_id: int
) -> int:
    """Tokens that the model reads at once."""
    positions = int(config.get("max_position_embeddings") or DEFAULT_MAX_TOKENS)
    if architecture in _OFFSET_POSITIONS:
        positions -= pad_id + 1
    limit = float(tokenizer.get("model_max_length") or _NO_LIMIT)
    return int(min(positions, limit)) if limit < _NO_LIMIT else positions


def _heads(folder: Path, config: Mapping[str, Any], asked: Asked) -> dict[str, Head]:
    where = str(folder / "config.json")
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    names = [str(named[key]) for key in sorted(named, key=int)]
    if asked.labels is not None:
        if len(asked.labels) != len(names):
            raise ModelSourceError(
                f"{len(asked.labels)} labels were given and the model has {len(names)} logits",
                where=where,
                hint=f"its own are {', '.join(names[:12])}",
            )
        names = list(asked.labels)
    heads: dict[str, Head] = {}
    for task, (start, stop) in _slices(names, asked, where).items():
        own = [name.removeprefix(f"{task}/") for name in names[start:stop]]
        labels = label_names(task, own, where=where)
        alone = stop - start == len(names)
        kind = asked.activation or _activation(task, labels, config if alone else {})
        heads[task] = Head(
            activation=kind,
            slice=(start, stop),
            labels=labels,
            thresholds=dict.fromkeys(labels, 0.5) if kind == "sigmoid" else {},
            top=3 if len(labels) > 12 else 0,
        )
    return heads


def _slices(names: Sequence[str], asked: Asked, where: str) -> dict[str, tuple[int, int]]:
    """Each task's logits: as asked, or by names like `toxicity/insult`, or one task for all."""
    if asked.heads:
        for task, (start, stop) in asked.heads.items():
            if not 0 <= start < stop <= len(names):
                raise ModelSourceError(
                    f"head `{task}`: the model has logits 0 to {len(names) - 1}, "
                    f"not {start} to {stop - 1}",
                    where=where,
                )
        return dict(asked.heads)
    if asked.task is not None:
        return {asked.task: (0, len(names))}
    if all("/" in name for name in names):
        slices: dict[str, tuple[int, int]] = {}
        for i, name in enumerate(names):
            task = name.partition("/")[0]
            slices[task] = (slices.get(task, (i, i))[0], i + 1)
        return slices
    raise ModelSourceError(
        f"what is the task of the labels {', '.join(f'`{name}`' for name in names[:8])}?",
        where=where,
        hint="say it: `--task sentiment`, `--task toxicity`, `--task language` or a name of your own",
    )


def _activation(task: str, labels: Sequence[str], config: Mapping[str, Any]) -> Activation:
    """By the task, else by what the model says of itself (of all its logits, so of one head only)."""
    if task in {"sentiment", LANGUAGE_TASK} and len(labels) > 1:
        return "softmax"
    kind = config.get("problem_type")
    if kind == "single_label_classification" or "none" in labels:
        return "softmax"
    several = kind == "multi_label_classification" or len(labels) == 1
    # Models of the Jigsaw labels seldom say that several may be true at once; they may.
    return "sigmoid" if several or task == "toxicity" else "softmax"


def _licence(folder: Path) -> str:
    """The licence in the front matter of the README."""
    unknown = "not stated: see the model's page"
    readme = folder / "README.md"
    if not readme.is_file():
        return unknown
    match = re.match(r"---\s*\n(.*?)\n---", readme.read_text("utf-8", "replace"), re.DOTALL)
    stated = re.search(r"^licen[cs]e:\s*(.+)$", match[1], re.MULTILINE) if match else None
    return stated[1].strip().strip("'\"") if stated else unknown


def _brief(exc: Exception) -> str:
    text = str(exc).strip().partition("\n")[0][:300] or type(exc).__name__
    return text[:1].lower() + text[1:]
