"""Small classifiers with random weights, one of each architecture, as folders on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from tests.models.bert_graph import WORDS, write_tokenizer

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "modernbert")
#: Their tokenizers pad with `<pad>`, id 1; the others with `[PAD]`, id 0.
ROBERTA_LIKE = ("roberta", "xlm-roberta", "modernbert")
WINDOW = 24
SENTIMENT = ("negative", "neutral", "positive")


def write_word_pieces(path: Path) -> Tokenizer:
    """A WordPiece tokenizer that gives token types and pads with `[PAD]`."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    pieces += [p for c in letters for p in (c, f"##{c}")]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    tokenizer.save(str(path))
    return tokenizer


def write_classifier(
    folder: Path,
    architecture: str,
    labels: Sequence[str] = SENTIMENT,
    *,
    problem_type: str | None = None,
    seed: int = 0,
) -> Path:
    """A classifier of two layers whose random weights are large enough to tell posts apart."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    folder.mkdir(parents=True)
    roberta = architecture in ROBERTA_LIKE
    write = write_tokenizer if roberta else write_word_pieces
    size = write(folder / "tokenizer.json").get_vocab_size()
    named = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>"}
    if not roberta:
        named = {name: f"[{name.upper()}]" for name in named}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": WINDOW,
                **{f"{name}_token": token for name, token in named.items()},
            }
        ),
        "utf-8",
    )
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        architecture,
        **_sizes(architecture, size),
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type=problem_type,
        pad_token_id=1 if roberta else 0,
    )
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0 if "classifier" in name else 5.0)
            elif name.endswith("bias") and "attention" not in name:
                # The others stay zero and are stored once: exporters share equal constants.
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def _sizes(architecture: str, vocabulary: int) -> dict[str, Any]:
    common = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2,
              "num_attention_heads": 4, "intermediate_size": 64}  # fmt: skip
    if architecture == "distilbert":
        return {"vocab_size": vocabulary, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
                "max_position_embeddings": WINDOW}  # fmt: skip
    if architecture == "deberta-v2":
        return {**common, "max_position_embeddings": WINDOW, "relative_attention": True,
                "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True,
                "norm_rel_ebd": "layer_norm", "position_biased_input": False,
                "type_vocab_size": 0}  # fmt: skip
    if architecture == "modernbert":
        return {**common, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 2,
                "cls_token_id": 0, "sep_token_id": 2, "local_attention": 8,
                "global_attn_every_n_layers": 2, "reference_compile": False}  # fmt: skip
    if architecture in ROBERTA_LIKE:
        return {**common, "max_position_embeddings": WINDOW + 2, "type_vocab_size": 1}
    return {**common, "max_position_embeddings": WINDOW}
