"""Classifiers of known sizes with random weights for `bench.gpu`, and what they multiply."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from models.manifest import load_manifest
from stream.bench.load import read_posts
from stream.post_decoding import decode_post

#: The model's name in its manifest, and its preset's.
NAME = "measured"
_LABELS = {
    "sentiment": ["negative", "neutral", "positive"],
    "toxicity": ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack"],
    "language": [
        "ar",
        "de",
        "en",
        "es",
        "fr",
        "hi",
        "it",
        "ja",
        "ko",
        "nl",
        "pt",
        "ru",
        "tr",
        "zh",
    ],
}
#: Layers, width, heads, width of the feed-forward part, vocabulary; 0: the tokenizer's.
SIZES = {
    "xlmr-base": (12, 768, 12, 3072, 250_002),
    "compact": (6, 384, 12, 1536, 0),
    "tiny": (2, 64, 4, 128, 0),
}
_POSITIONS = 514
#: Random weights of the usual spread answer every post alike; so much more of it tells posts apart.
_SPREAD = 2.0


def flops_of_a_post(config: dict[str, Any], tokens: int) -> float:
    """Floating-point operations of the matrix products for one post: two a multiplication."""
    wide, inner = config["hidden_size"], config["intermediate_size"]
    a_token = 4 * wide * wide + 2 * wide * inner + 2 * tokens * wide
    labels = sum(map(len, _LABELS.values()))
    head = wide * wide + wide * labels
    return float(2 * (config["num_hidden_layers"] * tokens * a_token + head))


def make(size: str, folder: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Write the classifier into `folder`/source and adopt it; returns the seconds it took and how near it is."""
    from models.adopt import Adoption, adopt
    from models.checkpoint import Asked
    from models.parity import Bound

    begun = time.perf_counter()
    source = folder / "source"
    _write(size, source, tokenizer or _bundled_tokenizer())
    written = time.perf_counter()
    steps: dict[str, float] = {}
    at = {"": written}

    def report(step: str, share: float, _remark: str) -> None:
        now = time.perf_counter()
        if share == 0:
            at[step] = now
        steps[step] = round(now - at.get(step, written), 1)

    heads, start = {}, 0
    for task, labels in _LABELS.items():
        heads[task] = (start, start + len(labels))
        start += len(labels)
    posts = [decode_post(value).text or "" for _, value in read_posts(None)]
    adopted = adopt(
        Adoption(
            name=NAME,
            source=str(source),
            manifest=folder / "manifest.toml",
            # 60 posts are compared: PyTorch answers one at a time.
            posts=posts[:120],
            asked=Asked(heads=heads, max_tokens=512),
            target="gpu",
            # What comes of it is written down, not judged: random weights amplify rounding.
            bound=Bound(1.0, 0.0),
        ),
        report,
    )
    parity = adopted.model.parity
    assert parity is not None
    return {
        "size": size,
        "write_s": round(written - begun, 1),
        "adopt_s": round(time.perf_counter() - written, 1),
        "steps_s": steps,
        "fused": dict(adopted.model.fused or {}),
        "parity": json.loads(json.dumps(parity, default=_plain)),
        "graph_mb": round((folder / NAME / adopted.model.graph).stat().st_size / 1e6, 1),
    }


def _plain(value: Any) -> Any:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _bundled_tokenizer() -> Path:
    manifest = load_manifest()
    model = next(m for m in manifest.preset("compact").values() if m.reads != "ngrams")
    return manifest.file(model, model.tokenizer)


def _write(size: str, source: Path, tokenizer: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    layers, hidden, heads, inner, vocabulary = SIZES[size]
    source.mkdir(parents=True)
    shutil.copyfile(tokenizer, source / "tokenizer.json")
    known = Tokenizer.from_file(str(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": _POSITIONS - 2,
                "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}  # fmt: skip
    (source / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    names = [f"{task}/{label}" for task, labels in _LABELS.items() for label in labels]
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=vocabulary or known.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=_POSITIONS,
        type_vocab_size=1,
        pad_token_id=known.token_to_id("<pad>"),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    model = XLMRobertaForSequenceClassification(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and "embeddings" not in name:
                weights.mul_(_SPREAD)
            elif name.endswith("bias"):
                # Equal constants would be stored once: a trained model has none.
                weights.add_(torch.randn_like(weights) * 0.02)
    model.save_pretrained(source)
