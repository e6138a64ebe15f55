"""From a PyTorch classifier to an entry that a worker can serve: fetch, export, check, write.

Nothing is written into a manifest before the graph has answered as the PyTorch model does, and
the files carry their sha256 from then on. Needs the extra `models`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from tokenizers import Tokenizer

from models.batch import Batch, pad_batches
from models.checkpoint import Asked, Checkpoint, fetch, load_classifier, need_extra, read_checkpoint
from models.errors import ManifestError, ModelBuildError, ModelSourceError, ParityError
from models.manifest import (
    Manifest,
    Model,
    Source,
    load_manifest,
    sha256_of,
)
from models.parity import BOUNDS, Bound, check_parity, measure_parity
from models.scorer import BATCH_TOKENS, OnnxScorer
from models.session import fused_operators
from models.text import clean, cut
from models.user_manifest import add_model, own

#: Told the step, the share of it that is done (0 to 1) and a remark.
Report = Callable[[str, float, str], None]
Precision = Literal["fp32", "fp16", "int8", "dynamic-int8"]
Quantise = Literal["auto", "none", "static", "dynamic"]

GRAPH: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
#: Posts that fixed int8 scales are taken from; the others are for the comparison.
_CALIBRATION_POSTS: Final = 600


@dataclass(frozen=True, slots=True)
class Adoption:
    """What to adopt and how.

    Args:
        name: of the model in the manifest.
        source: a Hub id or a folder.
        revision: of the Hub id.
        manifest: the manifest to write; the files go into the folder `name` beside it.
        posts: real posts, for the comparison and for int8's scales.
        asked: what the model does not say itself.
        target: `cpu` (O2, int8 where that works) or `gpu` (O4: fused, fp16).
        optimise: fuse operators.
        quantise: `auto` takes static int8 where the architecture and the comparison allow it.
        bound: that the comparison must keep; default: of the precision.
        preset: also write a preset of this name.
        version: default: the day and, where there is one, the commit.
        plan: the entry this one fulfils: its heads' labels, languages and thresholds hold.
    """

    name: str
    source: str
    manifest: Path
    posts: Sequence[str]
    revision: str | None = None
    asked: Asked = field(default_factory=Asked)
    target: Literal["cpu", "gpu"] = "cpu"
    optimise: bool = True
    quantise: Quantise = "auto"
    bound: Bound | None = None
    preset: bool = True
    version: str | None = None
    plan: Model | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it: the entry, where it stands, and remarks for the user."""

    name: str
    model: Model
    manifest: Path
    preset: str | None
    remarks: list[str]


def adopt(what: Adoption, report: Report = lambda _step, _share, _remark: None) -> Adopted:
    """Do every step; the manifest is written last.

    Raises:
        ModelSourceError: the model cannot be had, loaded or understood.
        ModelBuildError: it cannot be exported.
        ParityError: the graph answers otherwise than the model.
    """
    need_extra()
    report("fetch", 0.0, what.source)
    folder, source = fetch(what.source, what.revision)
    checkpoint = _fulfil(read_checkpoint(folder, source, what.asked), what.plan)
    report("fetch", 1.0, what.source)
    home = what.manifest.parent
    home.mkdir(parents=True, exist_ok=True)
    remarks: list[str] = []
    with tempfile.TemporaryDirectory(dir=home, prefix=f".{what.name}-") as work:
        model = _make(what, checkpoint, Path(work), remarks, report)
        final = home / model.folder
        if final.exists():
            shutil.rmtree(final)
        (Path(work) / model.folder).replace(final)
    preset = add_model(what.manifest, what.name, model, preset=what.preset)
    return Adopted(what.name, model, what.manifest, preset, remarks)


def plan_of(manifest: Manifest, name: str) -> Model:
    """The entry that says where the model `name` comes from.

    Raises:
        ManifestError: it does not say it.
    """
    model = manifest.model(name)
    if model.source is None:
        raise ManifestError(
            f"model `{name}` does not say where it comes from",
            where=str(manifest.path),
            hint="give its entry a `source`, or use `tidegate models add HUB_ID|DIR`",
        )
    return model


def _fulfil(checkpoint: Checkpoint, plan: Model | None) -> Checkpoint:
    """The checkpoint as a planned entry wants it; its labels must be the model's."""
    if plan is None:
        return checkpoint
    heads = {}
    for task, head in plan.heads.items():
        found = checkpoint.heads.get(task)
        if found is None or found.labels != head.labels:
            there = ", ".join(found.labels[:8]) if found is not None else "none"
            raise ModelSourceError(
                f"the labels do not match: the manifest says {', '.join(head.labels[:8])} for "
                f"`{task}`, the model {there}",
                where=str(checkpoint.folder / "config.json"),
                hint="another revision may fit: `--revision COMMIT`; or correct the manifest's entry",
            )
        heads[task] = msgspec.structs.replace(head, slice=found.slice)
    return replace(checkpoint, heads=heads, max_tokens=min(checkpoint.max_tokens, plan.max_tokens))


def _make(
    what: Adoption, checkpoint: Checkpoint, work: Path, remarks: list[str], report: Report
) -> Model:
    """The entry with its files in `work`, as good as its PyTorch model."""
    making = _Making(what, checkpoint, work, list(dict.fromkeys(what.posts)), report)
    (work / what.name).mkdir()
    making.export()
    for precision in _precisions(what):
        try:
            model = making.attempt(precision)
        except (ModelBuildError, ParityError) as exc:
            if what.quantise != "auto" or precision != "int8":
                raise
            remarks.append(f"no int8: {exc.message}; fp32 is served")
            continue
        if precision == "dynamic-int8":
            remarks.append(
                "dynamic int8: a post's score depends on its batch-mates, so a replay may give "
                "other labels (docs/models/quantisation.md)"
            )
        return model
    raise AssertionError("the last precision returns or raises")


def _precisions(what: Adoption) -> list[Precision]:
    """What to try, best first."""
    if what.target == "gpu":
        return ["fp16"]
    tried: dict[Quantise, list[Precision]] = {
        "auto": ["int8", "fp32"],
        "none": ["fp32"],
        "static": ["int8"],
        "dynamic": ["dynamic-int8"],
    }
    return tried[what.quantise]


@dataclass(frozen=True, slots=True)
class _Making:
    """Makes a model's files in the folder `work`/NAME."""

    what: Adoption
    checkpoint: Checkpoint
    work: Path
    posts: list[str]
    report: Report

    @property
    def files(self) -> Path:
        return self.work / self.what.name

    @property
    def plain(self) -> Path:
        return self.work / "fp32" / GRAPH

    def export(self) -> None:
        """The tokenizer, and the plain fp32 graph that everything else is made from."""
        from models.export import export_fp32

        _, fast = load_classifier(self.checkpoint)
        tokenizer: Tokenizer = fast.backend_tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.save(str(self.files / TOKENIZER))
        self.report("export", 0.0, self.checkpoint.architecture)
        export_fp32(self.checkpoint.folder, self.plain.parent)
        self.report("export", 1.0, self.checkpoint.architecture)

    def attempt(self, precision: Precision) -> Model:
        """The entry of a graph of this precision that answers as the PyTorch model does."""
        self._graph(precision)
        model = self._entry(precision)
        name = self.what.name
        alone = Manifest(
            path=self.work / "manifest.toml", presets={name: [name]}, models={name: model}
        )
        self.report("compare", 0.0, precision)
        parity = measure_parity(
            OnnxScorer(alone, name),
            self.checkpoint,
            self.posts[1::2] or self.posts,
            lambda share: self.report("compare", share, precision),
        )
        check_parity(parity, self.what.bound or BOUNDS[precision], self.files / GRAPH)
        return msgspec.structs.replace(model, parity=parity)

    def _graph(self, precision: Precision) -> None:
        from models.export import optimise, quantise_dynamic, write_labels
        from models.quantise import quantise

        out, labels = self.files / GRAPH, self._labels()
        if precision == "int8":
            self.report("quantise", 0.0, "")
            quantise(self.plain, out, labels, self._calibration())
            self.report("quantise", 1.0, "")
            return
        if precision == "dynamic-int8":
            quantise_dynamic(self.plain, out)
        elif self.what.optimise or precision == "fp16":
            self.report("optimise", 0.0, precision)
            level: Literal["O2", "O4"] = "O4" if precision == "fp16" else "O2"
            optimise(self.plain, self.checkpoint.folder / "config.json", out, level)
            self.report("optimise", 1.0, precision)
        else:
            shutil.copyfile(self.plain, out)
        write_labels(out, labels)

    def _labels(self) -> list[str]:
        """`task/label` of every logit; one that no head reads has a number for a name."""
        heads = self.checkpoint.heads
        flat = [f"unused/{i}" for i in range(max(head.slice[1] for head in heads.values()))]
        for task, head in heads.items():
            flat[slice(*head.slice)] = [f"{task}/{label}" for label in head.labels]
        return flat

    def _calibration(self) -> list[Batch]:
        limit = self.checkpoint.max_tokens
        tokenizer = Tokenizer.from_file(str(self.files / TOKENIZER))
        tokenizer.enable_truncation(limit)
        some = self.posts[::2][:_CALIBRATION_POSTS]
        texts = [clean(cut(post, limit)[0])[0] for post in some]
        tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        return pad_batches(tokens, BATCH_TOKENS, self.checkpoint.pad_id)

    def _entry(self, precision: Precision) -> Model:
        what, checkpoint = self.what, self.checkpoint
        source: Source = checkpoint.source
        now = datetime.now(UTC)
        day = f"{now.year}.{now.month}.{now.day}"
        commit = f"+{source.revision[:12]}" if source.revision else ""
        devices: dict[Precision, list[Literal["cpu", "cuda"]]] = {
            "fp32": ["cpu", "cuda"],
            "fp16": ["cuda", "cpu"],
            "int8": ["cpu"],
            "dynamic-int8": ["cpu"],
        }
        return Model(
            id=f"local/{what.name}" if Path(source.id).is_absolute() else source.id,
            version=what.version or f"{day}{commit}",
            licence=what.plan.licence if what.plan is not None else checkpoint.licence,
            folder=what.name,
            graph=GRAPH,
            tokenizer=TOKENIZER,
            max_tokens=checkpoint.max_tokens,
            files={name: sha256_of(self.files / name) for name in (GRAPH, TOKENIZER)},
            heads=checkpoint.heads,
            devices=devices[precision],
            precision=precision,
            pad_id=checkpoint.pad_id,
            source=source,
            fused=fused_operators(self.files / GRAPH),
        )


def taken(path: Path, name: str) -> bool:
    """Whether the manifest at `path` has a model of its own of this name."""
    return name in own(path)[1] or (path.is_file() and name in load_manifest(path).models)
