"""Cut a Hugging Face encoder down to a base that is small enough to fine-tune on a CPU.

Two cuts, neither of which trains anything: some encoder layers (evenly spaced, first and last
kept) and some vocabulary (the pieces a corpus really uses, every single character, the special
tokens). The tokenizer and the word embeddings are cut by the same list of ids, so a text made of
kept pieces gets the same vectors before and after.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from models.errors import ModelBuildError

#: SentencePiece's mark for a word's start.
_WORD_START = "\u2581"
_TOKENIZE_CHUNK = 20_000


def layers_to_keep(available: int, wanted: int) -> list[int]:
    """Indices of `wanted` layers out of `available`, evenly spaced, first and last included."""
    if not 1 <= wanted <= available:
        raise ModelBuildError(
            f"cannot keep {wanted} layers of an encoder that has {available}",
            hint=f"choose between 1 and {available}",
        )
    return [round(x) for x in np.linspace(0, available - 1, wanted)]


def pieces_to_keep(tokenizer: Tokenizer, corpus: Iterable[str], size: int) -> list[int]:
    """Sorted ids of the `size` pieces most frequent in `corpus`, all single characters and specials."""
    spec = json.loads(tokenizer.to_str())
    if spec["model"]["type"] != "Unigram":
        raise ModelBuildError(
            f"cannot cut a `{spec['model']['type']}` vocabulary, only `Unigram` (SentencePiece)",
            hint="choose a base of the XLM-R or E5 family, or keep the whole vocabulary with --vocab-size 0",
        )
    used: Counter[int] = Counter()
    chunk: list[str] = []

    def count() -> None:
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            used.update(encoding.ids)
        chunk.clear()

    for text in corpus:
        chunk.append(text)
        if len(chunk) >= _TOKENIZE_CHUNK:
            count()
    count()
    vocab: list[list[Any]] = spec["model"]["vocab"]
    specials = {token["id"] for token in spec["added_tokens"] if token["id"] < len(vocab)}
    characters = {
        i for i, (piece, _) in enumerate(vocab) if len(piece.removeprefix(_WORD_START)) == 1
    }
    frequent = {i for i, _ in used.most_common(size)}
    return sorted({*specials, spec["model"]["unk_id"], *characters, *frequent})


def cut_tokenizer(tokenizer: Tokenizer, keep: Sequence[int]) -> Tokenizer:
    """The same tokenizer with only the pieces `keep`; ids are the positions in `keep`."""
    spec = json.loads(tokenizer.to_str())
    vocab = spec["model"]["vocab"]
    new_id = {old: new for new, old in enumerate(keep)}
    spec["model"]["vocab"] = [vocab[i] for i in keep]
    spec["model"]["unk_id"] = new_id[spec["model"]["unk_id"]]
    kept_tokens = [token for token in spec["added_tokens"] if token["id"] in new_id]
    for token in kept_tokens:
        token["id"] = new_id[token["id"]]
    spec["added_tokens"] = kept_tokens
    for token in spec["post_processor"]["special_tokens"].values():
        token["ids"] = [new_id[i] for i in token["ids"]]
    return Tokenizer.from_str(json.dumps(spec))


def cut_base(
    source: str,
    out: Path,
    *,
    layers: int,
    corpus: Iterable[str],
    vocab_size: int,
    revision: str | None = None,
) -> dict[str, int]:
    """Write the cut base of `source` (a Hub id or a local folder) to `out`.

    The Hub is asked only when `source` is not a folder; `trust_remote_code` is never set.
    Returns what was kept: `layers`, `pieces`, `parameters`.

    Raises:
        ModelBuildError: `source` cannot be loaded, or its vocabulary cannot be cut.
    """
    from transformers import AutoModel, AutoTokenizer  # the `models` extra; slow to import

    try:
        model = AutoModel.from_pretrained(source, revision=revision)
        fast = AutoTokenizer.from_pretrained(source, revision=revision, use_fast=True)
    except (OSError, ValueError) as exc:
        raise ModelBuildError(
            f"cannot load the base `{source}`: {exc}",
            hint="give a local folder with config.json, model.safetensors and tokenizer.json, "
            "or a Hub id on a machine with network",
        ) from exc
    chosen = layers_to_keep(model.config.num_hidden_layers, layers)
    stack = model.encoder.layer
    model.encoder.layer = type(stack)(stack[i] for i in chosen)
    model.config.num_hidden_layers = layers

    tokenizer: Tokenizer = fast.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    out.mkdir(parents=True, exist_ok=True)
    if vocab_size > 0:
        keep = pieces_to_keep(tokenizer, corpus, vocab_size)
        tokenizer = cut_tokenizer(tokenizer, keep)
        old = model.embeddings.word_embeddings
        weights = old.weight.data[keep].clone()
        model.embeddings.word_embeddings = type(old).from_pretrained(weights, freeze=False)
        model.config.vocab_size = len(keep)
        for name in ("pad", "bos", "eos"):
            token = getattr(fast, f"{name}_token", None)
            if token is not None:
                setattr(model.config, f"{name}_token_id", tokenizer.token_to_id(token))
        model.embeddings.word_embeddings.padding_idx = model.config.pad_token_id
    model.save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": fast.bos_token,
                "eos_token": fast.eos_token,
                "pad_token": fast.pad_token,
                "unk_token": fast.unk_token,
                "cls_token": fast.cls_token,
                "sep_token": fast.sep_token,
                "model_max_length": model.config.max_position_embeddings,
                "model_input_names": ["input_ids", "attention_mask"],
            },
            indent=1,
        ),
        "utf-8",
    )
    return {
        "layers": layers,
        "pieces": int(model.config.vocab_size),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
