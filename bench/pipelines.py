"""The compact model beside three Hugging Face pipelines, one a task, of the same architecture.

    python -m bench.pipelines [--posts FILE] [--count 300] [--rounds 3]

What most people would write: `transformers.pipeline("text-classification", batch_size=32)` for
sentiment, toxicity and language each, in fp32 on PyTorch. Their encoders have the size and
vocabulary of the compact model, with random weights, which take the same time. Both score the
same posts, in alternating rounds; medians. Needs the extra `models`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from models.devices import available_threads
from models.manifest import Manifest, Model, load_manifest
from models.scorer import OnnxScorer
from stream.bench.load import read_posts
from stream.post_decoding import decode_post

#: The compact encoder's shape (docs/models/quantisation.md); its vocabulary is the tokenizer's.
_HIDDEN, _LAYERS, _HEADS, _WIDE, _POSITIONS = 384, 6, 12, 1536, 512
_TASKS = {"sentiment": 3, "toxicity": 6, "language": 138}


def pipelines(manifest: Manifest, model: Model, folder: Path) -> list[Any]:
    """One pipeline a task, as the library makes them."""
    import torch
    from tokenizers import Tokenizer
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
        pipeline,
    )

    torch.manual_seed(0)
    torch.set_num_threads(available_threads())
    tokenizer = Tokenizer.from_file(str(manifest.file(model, model.tokenizer)))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106 - a padding token is no password
        model_max_length=model.max_tokens,
    )
    made = []
    for task, labels in _TASKS.items():
        config = BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=_HIDDEN,
            num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS,
            intermediate_size=_WIDE,
            max_position_embeddings=_POSITIONS,
            num_labels=labels,
            problem_type="multi_label_classification" if task == "toxicity" else None,
        )
        at = folder / task
        BertForSequenceClassification(config).save_pretrained(at)
        fast.save_pretrained(at)
        made.append(pipeline("text-classification", model=str(at), device="cpu", top_k=None))
    return made


def main() -> None:
    """Print posts a second of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", help="default: the demo's")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    posts = read_posts(options.posts)
    texts = [decode_post(value).text or "" for _, value in posts]
    texts = [texts[i % len(texts)] for i in range(options.count)]
    manifest = load_manifest()
    model = next(m for m in manifest.preset("compact").values() if "toxicity" in m.heads)
    scorer = OnnxScorer(manifest, "compact", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        three = pipelines(manifest, model, Path(folder))

        def stock() -> None:
            for each in three:
                each(texts, batch_size=32, truncation=True)

        ways: dict[str, Callable[[], object]] = {
            "compact": lambda: scorer.score(texts),
            "three pipelines": stock,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                rates[name].append(len(texts) / (time.perf_counter() - begun))
    middle = {name: median(values) for name, values in rates.items()}
    for name, rate in middle.items():
        print(f"{name:16} {rate:8.1f} posts/s")
    ratio = middle["compact"] / middle["three pipelines"]
    print(f"{'ratio':16} {ratio:8.1f}   ({available_threads()} threads, {len(texts)} posts)")


if __name__ == "__main__":
    main()
