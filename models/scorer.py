"""The scorer of a preset: tokenise once a tokenizer, one pass a model, every task's answer.

Invariant: a text's scores depend on the text alone. Batches are cut so that padding is small, and
neither padding nor neighbours reach the answer (docs/models/quantisation.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.batch import CALL_TOKENS, Feeds, pad_batches
from models.devices import parse_device
from models.errors import ManifestError, ModelFileError
from models.heads import HeadReader, HeadSet
from models.language.member import ngram_batches
from models.language.vocabulary import Vocabulary
from models.manifest import Manifest, Model, load_manifest
from models.null import NULL_PRESET, NullScorer
from models.pieces import MAX_WINDOWS, Cutting, Pieces, combine, overlap_tokens
from models.scores import ModelVersion, Prepared, Scorer, TextScores
from models.session import GraphSession, SessionFacts, SessionOptions
from models.text import clean, cut, spell_out
from models.views import second_view

#: Tokens, padding included, of one inference call; the fastest of the sizes tried on two cores.
BATCH_TOKENS: Final = 768
#: The same on a GPU, unless another number is asked for.
GPU_BATCH_TOKENS: Final = 16_384
#: What starting a call is reckoned to cost there, in tokens; not measured.
_GPU_CALL_TOKENS: Final = 4096
#: `score` takes the texts in pieces of this many: its memory does not grow with their number.
_SCORE_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class _Member:
    """A loaded model and where its logits begin among those of the preset."""

    model: Model
    session: GraphSession
    offset: int
    tokenizer: Tokenizer = None
    pad_id: int = 0
    special_tokens: list[str] = field(default_factory=list)
    #: Of a model that reads n-grams; it has no tokenizer.
    vocabulary: Vocabulary | None = None

    @property
    def width(self) -> int:
        """Number of logits."""
        return self.session.width or self.model.width

    @property
    def detects(self) -> bool:
        """Whether a head may find several labels at once: what a second view is for."""
        return any(head.activation == "sigmoid" for head in self.model.heads.values())

    def infer(
        self, batches: Sequence[Feeds], pieces: Pieces | None, texts: int, session: GraphSession
    ) -> NDArray[np.float32]:
        """Logits of shape (texts, width)."""
        rows = texts if pieces is None else len(pieces.owner)
        logits = np.empty((rows, self.width), dtype=np.float32)
        for batch, part in session.run_all(batches):
            logits[batch.rows] = part
        return logits if pieces is None else combine(logits, pieces, texts, self.model.heads)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What runs and how; `fused` as the manifest counts the operators, None where it does not."""

    id: str
    version: str
    precision: str | None
    fused: Mapping[str, int] | None
    session: SessionFacts


class OnnxScorer:
    """Implements `models.scores.Scorer` with onnxruntime; build it with `load_scorer`.

    Args:
        manifest: where the models are described.
        preset: which of them serve.
        device: `auto`, `cpu`, `cuda`, `cuda:n` or `tensorrt`.
        threads: of all calls together; 0: every core.
        batch_tokens: tokens, padding included, of one inference call.
        windows: most windows of one text that are scored.
        second_views: also score what a disguised text hides (`models.views`).
        options: of the sessions; default: as suits the device.

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
        windows: int = MAX_WINDOWS,
        second_views: bool = False,
        options: SessionOptions | None = None,
    ) -> None:
        self.batch_tokens = batch_tokens
        self._call_tokens = CALL_TOKENS
        self._windows = windows
        self._second_views = second_views
        self._members: list[_Member] = []
        self._models: dict[str, ModelVersion] = {}
        readers: dict[str, HeadReader] = {}
        offset = 0
        members = manifest.preset(preset)
        for name, model in members.items():
            manifest.verify(name)
            graph = manifest.file(model, model.graph)
            session = GraphSession(
                graph,
                device=_device_of(model, device, members),
                runs_on=list(model.devices),
                threads=threads,
                options=options,
            )
            _check_labels(name, manifest.model(name), session)
            self._members.append(_member(manifest, model, session, offset))
            for task, head in model.heads.items():
                readers[task] = HeadReader(head, offset)
                self._models[task] = ModelVersion(model.id, model.version)
            offset += self._members[-1].width
        self.lanes = self._members[0].session.facts.sessions
        if self.device != "cpu":
            # Its sessions overlap within a batch already.
            self.lanes = 1
            self._call_tokens = _GPU_CALL_TOKENS
            if batch_tokens == BATCH_TOKENS:
                self.batch_tokens = GPU_BATCH_TOKENS
        self._width = offset
        self._heads = HeadSet(readers)
        self._readers = readers

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        """Task to the model that answers it."""
        return self._models

    @property
    def device(self) -> str:
        """Where the first model runs: `cpu`, `cuda:n` or `tensorrt:n`."""
        return self._members[0].session.device

    @property
    def facts(self) -> list[ModelFacts]:
        """How each model runs, for logs and the System page."""
        return [
            ModelFacts(
                id=member.model.id,
                version=member.model.version,
                precision=member.model.precision,
                fused=member.model.fused,
                session=member.session.facts,
            )
            for member in self._members
        ]

    def reader(self, task: str) -> HeadReader:
        """What reads the task's probabilities out of `infer`'s logits."""
        return self._readers[task]

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Clean, tokenise, sort by length and cut into batches by token budget."""
        truncated = [False] * len(texts)
        cleaned = [False] * len(texts)
        batches: list[Sequence[Feeds]] = []
        pieces: list[Pieces | None] = []
        for member in self._members:
            if member.vocabulary is not None:
                batches.append(ngram_batches(texts, member.vocabulary))
                pieces.append(None)
                continue
            limit = member.model.max_tokens
            readable: list[str] = []
            for i, text in enumerate(texts):
                part, was_cut = cut(text, limit * self._windows)
                part, was_cleaned = clean(part)
                readable.append(spell_out(part, member.special_tokens))
                truncated[i] |= was_cut
                cleaned[i] |= was_cleaned
            cutting = Cutting(self._windows)
            for i, encoding in enumerate(member.tokenizer.encode_batch_fast(readable)):
                truncated[i] |= cutting.add(i, encoding, limit)
            if self._second_views and member.detects:
                self._add_views(member, readable, cutting)
            batches.append(
                pad_batches(
                    cutting.tokens,
                    self.batch_tokens,
                    member.pad_id,
                    self._call_tokens,
                    self.lanes,
                )
            )
            pieces.append(cutting.pieces(len(texts)))
        return Prepared(len(texts), batches, truncated, cleaned, pieces)

    def _add_views(self, member: _Member, readable: Sequence[str], cutting: Cutting) -> None:
        views = [(i, second_view(text)) for i, text in enumerate(readable)]
        hidden = [(i, view) for i, view in views if view != readable[i]]
        encodings = member.tokenizer.encode_batch_fast([view for _, view in hidden])
        for (i, _), encoding in zip(hidden, encodings, strict=True):
            cutting.add(i, encoding, member.model.max_tokens, second_view=True)

    def infer(self, prepared: Prepared) -> NDArray[np.float32]:
        """Logits of shape (texts, labels of all tasks), in the order of the texts.

        Raises:
            ModelRuntimeError: a session failed.
        """
        logits = np.empty((prepared.count, self._width), dtype=np.float32)
        parts = zip(self._members, prepared.batches, prepared.pieces, strict=True)
        for member, batches, pieces in parts:
            columns = slice(member.offset, member.offset + member.width)
            logits[:, columns] = member.infer(batches, pieces, prepared.count, member.session)
        return logits

    def infer_with(self, session: GraphSession, prepared: Prepared) -> NDArray[np.float32]:
        """As `infer`, of the first model alone, with another session of the same model."""
        member = self._members[0]
        return member.infer(prepared.batches[0], prepared.pieces[0], prepared.count, session)

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
    windows: int = MAX_WINDOWS,
    second_views: bool = False,
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
        windows=windows,
        second_views=second_views,
    )


def _device_of(model: Model, asked: str, members: Mapping[str, Model]) -> str:
    """Where a model runs: as asked; one made for CPUs stays there beside one that goes to the GPU."""
    kind, _ = parse_device(asked)
    wanted = "cuda" if kind == "tensorrt" else kind
    elsewhere = any(wanted in other.devices for other in members.values())
    return "cpu" if wanted == "cuda" and wanted not in model.devices and elsewhere else asked


def _member(manifest: Manifest, model: Model, session: GraphSession, offset: int) -> _Member:
    path = manifest.file(model, model.tokenizer)
    if model.reads == "ngrams":
        return _Member(model, session, offset, vocabulary=Vocabulary.load(path))
    tokenizer, pad_id = _load_tokenizer(path, model.max_tokens, model.pad_id)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    session.pad_id, session.most_tokens = pad_id, model.max_tokens
    return _Member(model, session, offset, tokenizer, pad_id, special)


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
    tokenizer.enable_truncation(max_tokens, stride=overlap_tokens(max_tokens))
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
