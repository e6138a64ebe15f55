"""The scorer of a preset: tokenise once a tokenizer, one pass a model, every task's answer.

Invariant: a text's scores depend on the text alone. Batches are cut so that padding is small, and
neither padding nor neighbours reach the answer (docs/models/quantisation.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.batch import Batch, pad_batches
from models.errors import ManifestError, ModelFileError
from models.heads import HeadReader, HeadSet
from models.manifest import Manifest, Model, load_manifest
from models.null import NULL_PRESET, NullScorer
from models.scores import ModelVersion, Prepared, Scorer, TextScores
from models.session import GraphSession
from models.text import clean, cut, spell_out

#: Tokens, padding included, of one inference call; the fastest of the sizes tried on two cores.
BATCH_TOKENS: Final = 1536
#: `score` takes the texts in pieces of this many: its memory does not grow with their number.
_SCORE_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class _Member:
    """A loaded model and where its logits begin among those of the preset."""

    model: Model
    session: GraphSession
    tokenizer: Tokenizer
    pad_id: int
    special_tokens: list[str]
    offset: int


class OnnxScorer:
    """Implements `models.scores.Scorer` with onnxruntime; build it with `load_scorer`.

    Args:
        manifest: where the models are described.
        preset: which of them serve.
        device: `auto`, `cpu`, `cuda` or `cuda:n`.
        threads: of one session; 0: every core.
        batch_tokens: tokens, padding included, of one inference call.

    Raises:
        ManifestError: no such preset, or a graph's labels are not the manifest's.
        ModelFileError: a file is missing or changed.
        ModelRuntimeError: onnxruntime cannot load a graph on the device.
    """

    def __init__(
        self,
        manifest: Manifest,
        preset: str,
        *,
        device: str = "auto",
        threads: int = 0,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self._batch_tokens = batch_tokens
        self._members: list[_Member] = []
        self._models: dict[str, ModelVersion] = {}
        readers: dict[str, HeadReader] = {}
        offset = 0
        for name, model in manifest.preset(preset).items():
            manifest.verify(name)
            graph = manifest.file(model, model.graph)
            session = GraphSession(
                graph, device=device, runs_on=list(model.devices), threads=threads
            )
            _check_labels(name, manifest.model(name), session)
            tokenizer, pad_id = _load_tokenizer(
                manifest.file(model, model.tokenizer), model.max_tokens, model.pad_id
            )
            special = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
            self._members.append(_Member(model, session, tokenizer, pad_id, special, offset))
            for task, head in model.heads.items():
                readers[task] = HeadReader(head, offset)
                self._models[task] = ModelVersion(model.id, model.version)
            offset += session.width or model.width
        self._width = offset
        self._heads = HeadSet(readers)

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        """Task to the model that answers it."""
        return self._models

    @property
    def device(self) -> str:
        """Where the first model runs: `cpu` or `cuda:n`."""
        return self._members[0].session.device

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Clean, tokenise, sort by length and cut into batches by token budget."""
        truncated = [False] * len(texts)
        cleaned = [False] * len(texts)
        batches: list[list[Batch]] = []
        for member in self._members:
            limit = member.model.max_tokens
            readable: list[str] = []
            for i, text in enumerate(texts):
                part, was_cut = cut(text, limit)
                part, was_cleaned = clean(part)
                readable.append(spell_out(part, member.special_tokens))
                truncated[i] |= was_cut
                cleaned[i] |= was_cleaned
            encodings = member.tokenizer.encode_batch_fast(readable)
            tokens = [encoding.ids for encoding in encodings]
            for i, ids in enumerate(tokens):
                # `overflowing` copies what was cut: only a full row can have any.
                if len(ids) == limit and encodings[i].overflowing:
                    truncated[i] = True
            batches.append(pad_batches(tokens, self._batch_tokens, member.pad_id))
        return Prepared(len(texts), batches, truncated, cleaned)

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        """Logits of shape (texts, labels of all tasks), in the order of the texts.

        Raises:
            ModelRuntimeError: a session failed.
        """
        logits = np.empty((prepared.count, self._width), dtype=np.float32)
        for member, batches in zip(self._members, prepared.batches, strict=True):
            for batch in batches:
                part = member.session.run(batch)
                logits[batch.rows, member.offset : member.offset + part.shape[1]] = part
        return logits

    def finish(self, prepared: Prepared, logits: NDArray[np.float32]) -> list[TextScores]:
        """Scores in the order of the texts."""
        return self._heads.finish(prepared, logits)

    def score(self, texts: Sequence[str]) -> list[TextScores]:
        """The three stages one after the other."""
        scores: list[TextScores] = []
        for start in range(0, len(texts), _SCORE_CHUNK):
            prepared = self.prepare(texts[start : start + _SCORE_CHUNK])
            scores.extend(self.finish(prepared, self.infer(prepared)))
        return scores


def load_scorer(
    manifest_path: Path | None = None,
    preset: str = "compact",
    *,
    device: str = "auto",
    threads: int = 0,
    batch_tokens: int = BATCH_TOKENS,
) -> Scorer:
    """The scorer of a preset; the arguments are the settings of section `models`.

    The preset `null` needs no manifest: it is `models.null.NullScorer`.

    Raises:
        ManifestError: the manifest is wrong, has no such preset, or contradicts a graph.
        ModelFileError: a file is missing or changed.
        ModelRuntimeError: onnxruntime cannot load a graph on the device.
    """
    if preset == NULL_PRESET:
        return NullScorer()
    return OnnxScorer(
        load_manifest(manifest_path),
        preset,
        device=device,
        threads=threads,
        batch_tokens=batch_tokens,
    )


def _load_tokenizer(
    path: Path, max_tokens: int, pad_id: int | None = None
) -> tuple[Tokenizer, int]:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the Rust side raises plain `Exception`
        raise ModelFileError(
            f"cannot read the tokenizer: {exc}",
            where=str(path),
            hint="`tidegate models verify` checks the files",
        ) from exc
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    if pad_id is None:
        pad_id = tokenizer.token_to_id("<pad>")
    if pad_id is None:
        pad_id = tokenizer.token_to_id("[PAD]")
    return tokenizer, pad_id or 0


def _check_labels(name: str, model: Model, session: GraphSession) -> None:
    if session.width is not None and session.width != model.width:
        raise ManifestError(
            f"model `{name}`: its heads describe {model.width} logits, the graph gives {session.width}",
            where=str(session.path),
            hint="`tidegate models build` writes the heads that belong to a graph",
        )
    labels = session.labels
    if labels is None:
        return
    for task, head in model.heads.items():
        there = [label.removeprefix(f"{task}/") for label in labels[slice(*head.slice)]]
        if there != head.labels:
            pairs = zip_longest(head.labels, there, fillvalue="nothing")
            wrong = next((a, b) for a, b in pairs if a != b)
            raise ManifestError(
                f"model `{name}`: head `{task}`: the manifest says `{wrong[0]}` where the graph "
                f"says `{wrong[1]}`: the labels do not match",
                where=str(session.path),
                hint="`tidegate models build` writes the heads that belong to a graph",
            )
