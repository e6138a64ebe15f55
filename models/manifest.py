"""The manifest: which models serve which tasks, and everything a scorer must know about them.

A preset names models; together they answer each task once. Nothing about a model is written in
code. A file is used only while its sha256 is the manifest's.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec

from models.contradictions import contradictions, member_tasks
from models.curves import Curve
from models.errors import ManifestError, ModelFileError

MANIFEST_SCHEMA: Final = "tidegate.models.v1"
#: The task whose answer decides whether the other tasks know a text's language.
LANGUAGE_TASK: Final = "language"
#: Its answer where a text is in no language that can be told: no letters, or random ones.
UNDETERMINED: Final = "und"
#: What `check_files` says of a model that has no files yet.
NOT_EXPORTED: Final = "not exported yet"
_HASH_CHUNK = 1 << 20
T = TypeVar("T")

Threshold = Annotated[float, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a threshold gave on the dev rows that know the label, `positives` of them with it."""

    precision: Threshold
    recall: Threshold
    rows: int
    positives: int


class LanguageThreshold(Measured, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label's threshold for posts in one language, and what it gave on that language's rows."""

    threshold: Threshold


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task's part of a model's logits.

    `softmax`: one answer, the most probable label. `sigmoid`: several labels at once, each with
    its threshold; the answer is the highest label at or over its own, or `none`.
    `languages` are those the task claims by its dev figures, empty where that is not known; `top` is how
    many scores a label record carries (0: all).

    Calibration: a softmax head's logits are divided by `temperature`, a sigmoid head's go through
    its `curves`, label by label. `thresholds` count for every language without one of its own in
    `by_language`; `measured` is what they gave on dev. A softmax head answers `und` where its best
    probability is under `undetermined`.
    """

    activation: Literal["softmax", "sigmoid"]
    slice: tuple[int, int]
    labels: Annotated[list[str], msgspec.Meta(min_length=1)]
    thresholds: dict[str, Threshold] = msgspec.field(default_factory=dict)
    languages: list[str] = msgspec.field(default_factory=list)
    top: Annotated[int, msgspec.Meta(ge=0)] = 0
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    undetermined: Threshold = 0.0
    curves: dict[str, Curve] = msgspec.field(default_factory=dict)
    measured: dict[str, Measured] = msgspec.field(default_factory=dict)
    by_language: dict[str, dict[str, LanguageThreshold]] = msgspec.field(default_factory=dict)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a model was exported from: a Hub id or a folder, and the commit where there is one."""

    id: str
    revision: str | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph against the PyTorch model it was exported from, on the same posts.

    `largest_change` is of any score, `agreement` the share of posts with the same label, of the
    task where it is lowest.
    """

    posts: int
    largest_change: float
    agreement: float


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One graph with its tokenizer. `files` are relative to `folder`, and that to the manifest.

    `devices` are where the graph runs as it was measured, best first. A model with a `source` and
    no `files` is a plan: `tidegate models export` makes the files. `pad_id` is the tokenizer's
    padding, where it has another name than `<pad>` or `[PAD]`; `fused` counts the graph's fused
    operators. A model that `reads` n-grams is `models.language`'s: its `tokenizer` is their
    vocabulary, its `max_tokens` the letters of a text that it looks at.
    """

    id: str
    version: str
    licence: str
    folder: str
    graph: str
    tokenizer: str
    max_tokens: Annotated[int, msgspec.Meta(ge=4, le=8192)]
    files: dict[str, Sha256]
    heads: dict[str, Head]
    devices: list[Literal["cpu", "cuda"]] = msgspec.field(default_factory=lambda: ["cpu", "cuda"])
    reads: Literal["tokens", "ngrams"] = "tokens"
    precision: Literal["fp32", "fp16", "int8", "dynamic-int8"] | None = None
    pad_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    fused: dict[str, int] | None = None
    source: Source | None = None
    parity: Parity | None = None

    @property
    def exported(self) -> bool:
        """Whether the entry has files; without, it says what `tidegate models export` shall make."""
        return bool(self.files)

    @property
    def width(self) -> int:
        """Number of logits the heads read."""
        return max(head.slice[1] for head in self.heads.values())


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["tidegate.models.v1"]
    presets: dict[str, list[str]] = msgspec.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    extends: Literal["bundled"] | None = None


class FileCheck(NamedTuple):
    """What `Manifest.verify` found out about one file; `problem` is None when all is well."""

    model: str
    file: str
    size: int
    problem: str | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that holds together, and where it was read."""

    path: Path
    presets: Mapping[str, list[str]]
    models: Mapping[str, Model]

    def preset(self, name: str) -> dict[str, Model]:
        """The models of a preset by their name in the manifest, with the heads that serve in it.

        Raises:
            ManifestError: there is no such preset.
        """
        if name not in self.presets:
            known = ", ".join(f"`{preset}`" for preset in sorted(self.presets))
            raise ManifestError(
                f"no preset `{name}`", where=str(self.path), hint=f"there is {known or 'none'}"
            )
        members = {}
        for member in self.presets[name]:
            model, tasks = member_tasks(member)
            whole = self.models[model]
            heads = {t: h for t, h in whole.heads.items() if not tasks or t in tasks}
            members[model] = msgspec.structs.replace(whole, heads=heads)
        return members

    def model(self, name: str) -> Model:
        """The model called `name`.

        Raises:
            ManifestError: there is no such model.
        """
        if name not in self.models:
            known = ", ".join(f"`{model}`" for model in sorted(self.models))
            raise ManifestError(
                f"no model `{name}`", where=str(self.path), hint=f"there is {known or 'none'}"
            )
        return self.models[name]

    def file(self, model: Model, name: str) -> Path:
        """Where one of a model's files lies."""
        return self.path.parent / model.folder / name

    def check_files(self, name: str) -> Iterator[FileCheck]:
        """Every file of the model `name` with its problem, if it has one."""
        model = self.model(name)
        if not model.exported:
            yield FileCheck(name, model.graph, 0, NOT_EXPORTED)
        for file, wanted in model.files.items():
            path = self.file(model, file)
            try:
                size = path.stat().st_size
                found = sha256_of(path)
            except FileNotFoundError:
                yield FileCheck(name, file, 0, "missing")
            except OSError as exc:
                yield FileCheck(name, file, 0, f"cannot be read: {exc.strerror}")
            else:
                problem = None if found == wanted else f"sha256 is {found}, not {wanted}"
                yield FileCheck(name, file, size, problem)

    def verify(self, name: str) -> None:
        """Check the files of the model `name` against their hashes.

        Raises:
            ModelFileError: the model is not exported yet, or a file is missing or is another one
                than the manifest names.
        """
        if not self.model(name).exported:
            raise ModelFileError(
                f"model `{name}` is not exported yet",
                where=str(self.path),
                hint=f"`tidegate models export {name}` gets it from the Hub and makes its files",
            )
        for check in self.check_files(name):
            if check.problem is not None:
                raise ModelFileError(
                    f"model `{name}`: file `{check.file}`: {check.problem}",
                    where=str(self.file(self.models[name], check.file)),
                    hint="restore the file (`git checkout` or a fresh install), or, if the change "
                    "is yours, write its new sha256 into the manifest",
                )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def bundled_manifest_path() -> Path:
    """The manifest that comes with Tidegate."""
    return Path(str(resources.files("models") / "manifest.toml"))


def user_manifest_path() -> Path:
    """Where `tidegate models add` and `export` write, unless they are told another file."""
    return Path(".tidegate") / "models" / "manifest.toml"


def default_manifest_path() -> Path:
    """The user's manifest where there is one, else the bundled one."""
    path = user_manifest_path()
    return path if path.is_file() else bundled_manifest_path()


def load_manifest(path: Path | None = None) -> Manifest:
    """Read and check a manifest; default: the user's where there is one, else the bundled one.

    A manifest that `extends` the bundled one has its presets and models too, unless it names its
    own by the same name.

    Raises:
        ManifestError: it is not there, is not a manifest, or contradicts itself.
    """
    path = default_manifest_path() if path is None else path
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ManifestError(
            f"cannot read the manifest: {exc.strerror}",
            where=str(path),
            hint="set `models.manifest` to a file, or leave it out for the bundled one",
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ManifestError(f"not TOML: {exc}", where=str(path)) from exc
    document = _converted(raw, _Document, "", path)
    models: dict[str, Model] = {}
    for name, values in document.models.items():
        # Each part for itself, so that a mistake is blamed on a model and a head by name.
        heads = values.get("heads")
        for task, head in heads.items() if isinstance(heads, dict) else ():
            _converted(head, Head, f"models.{name}.heads.{task}", path)
        models[name] = _converted(values, Model, f"models.{name}", path)
    presets = document.presets
    if document.extends == "bundled":
        bundled = load_manifest(bundled_manifest_path())
        models = {**_moved(bundled), **models}
        presets = {**bundled.presets, **presets}
    problem = next(contradictions(presets, models), None)
    if problem is not None:
        raise ManifestError(
            problem, where=str(path), hint="docs/models/manifest.md describes every key"
        )
    return Manifest(path=path, presets=presets, models=models)


def _moved(manifest: Manifest) -> dict[str, Model]:
    """The models of `manifest` as another manifest names them: with absolute folders."""
    parent = manifest.path.resolve().parent
    return {
        name: msgspec.structs.replace(model, folder=str(parent / model.folder))
        for name, model in manifest.models.items()
    }


def _converted(raw: object, kind: type[T], at: str, path: Path) -> T:
    """`raw` as a `kind`; `at` is its place in the manifest."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as exc:
        message, _, place = str(exc).partition(" - at ")
        inner = place.strip("`").removeprefix("$").removeprefix(".")
        where = ".".join(part for part in (at, inner) if part) or "the top"
        raise ManifestError(
            f"`{where}`: {message[:1].lower()}{message[1:]}",
            where=str(path),
            hint="docs/models/manifest.md describes every key",
        ) from exc
