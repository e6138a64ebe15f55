"""Makes a model: base, stages of training, export, quantise, language, evaluate; each leaves a file.

A step whose file is there is not done again, so an interrupted build goes on where it was; delete
a step's folder to repeat it. Only the steps before `quantise`, and the language model's, need the extra `models`.
"""

from __future__ import annotations

import json
import random
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from tokenizers import Tokenizer

from models.batch import Batch, pad_batches
from models.card import model_card
from models.describe import calibrated, with_languages
from models.devices import available_threads
from models.errors import ModelBuildError
from models.evaluate import Bench, Evaluation, dev_rows, measure
from models.functional import FunctionalFigures, evaluate_functional, functional_pairs
from models.language.build import (
    GRAPH,
    describe_language,
    fit_language,
    read_language_recipe,
    write_language,
)
from models.manifest import LANGUAGE_TASK, Head, Manifest, Model, sha256_of
from models.manifest_writing import manifest_toml
from models.scorer import BATCH_TOKENS
from models.session import fused_operators
from models.text import clean, cut
from models.training.data import TASKS, TaskData, TaskName, find_part, read_task, read_tsv

Report = Callable[[str, float, str], None]
Recipe = Mapping[str, Any]

_GRAPH, _TOKENIZER, _FIGURES = "model.onnx", "tokenizer.json", "evaluation.json"


@dataclass(frozen=True, slots=True)
class Build:
    """One build: what it reads and where it writes.

    `base` is a Hub id or a folder; None: what the recipe says. `report` is told the step, the
    share of it that is done (0 to 1) and a remark.
    """

    name: str
    data: Path
    out: Path
    recipe: Recipe
    base: str | None
    version: str
    report: Report

    @property
    def folder(self) -> Path:
        """The files that ship."""
        return self.out / self.name

    @property
    def trained(self) -> Path:
        """The model after its last stage of training."""
        return self.out / str(self.recipe["stage"][-1]["name"])


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a TOML file.

    Raises:
        ModelBuildError: it cannot be read or lacks a section.
    """
    try:
        recipe = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ModelBuildError(f"cannot read the recipe: {exc}", where=str(path)) from exc
    for section in ("model", "base", "draw", "fit", "stage", "quantise"):
        if section not in recipe:
            raise ModelBuildError(
                f"the recipe has no section `{section}`",
                where=str(path),
                hint="models/training/compact.toml is a complete one",
            )
    return recipe


def today() -> str:
    """The version of a model built now."""
    now = datetime.now(UTC)
    return f"{now.year}.{now.month}.{now.day}"


def build(plan: Build) -> Evaluation:
    """Do every step that is still to do, and return what was measured.

    Raises:
        ModelBuildError: a step failed; those before it are kept.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    _make_base(plan)
    for stage in plan.recipe["stage"]:
        _train(plan, stage)
    _export(plan)
    _quantise(plan)
    _language(plan)
    return _evaluate(plan)


def train_data(plan: Build) -> dict[TaskName, TaskData]:
    """The training rows of every task, with the recipe's labels."""
    labels = plan.recipe["fit"]["labels"]
    return {task: read_task(plan.data, task, "train", labels.get(task)) for task in TASKS}


def _make_base(plan: Build) -> None:
    out = plan.out / "base"
    if (out / _TOKENIZER).is_file():
        return
    plan.report("base", 0.0, "")
    _need_extra()
    from models.training.base import cut_base

    def corpus() -> Iterator[str]:
        for task in train_data(plan).values():
            yield from (row.text for row in task.rows)
        for row in read_tsv(find_part(plan.data, "language", "words")):
            yield row["word"]

    settings = plan.recipe["base"]
    kept = cut_base(
        plan.base or settings["source"],
        out,
        layers=settings["layers"],
        corpus=corpus(),
        vocab_size=settings["vocab_size"],
    )
    plan.report("base", 1.0, ", ".join(f"{count:,} {what}" for what, count in kept.items()))


def _train(plan: Build, stage: Mapping[str, Any]) -> None:
    """One stage: from the base or an earlier stage, from labels or from what earlier stages say."""
    name = stage["name"]
    out = plan.out / name
    # The last file that a stage writes: without it the model beside it may be half a file.
    if (out / "labels.json").is_file():
        return
    plan.report(name, 0.0, "drawing")
    _need_extra()
    from models.training.draw import draw_pass
    from models.training.fit import Stage, fit
    from models.training.teach import mean_logits

    settings = {**plan.recipe["fit"], **stage}
    data = train_data(plan)
    drawn = {**plan.recipe["draw"], **stage.get("draw", {})}
    rows = [
        row
        for number in range(settings["passes"])
        for row in draw_pass(data, drawn, settings.get("first_pass", 1) + number)
    ]
    soft = None
    if teachers := stage.get("teachers"):
        soft = mean_logits(
            [plan.out / teacher for teacher in teachers],
            rows,
            settings["max_tokens"],
            out / "teachers.npy",
            lambda share, remark: plan.report(f"{name}: teachers", share, remark),
        )
    labels: Mapping[TaskName, list[str]] = settings["labels"]
    fit(
        plan.out / stage.get("from", "base"),
        out,
        Stage(rows, labels, settings, soft),
        lambda progress: _show(plan, name, progress),
    )


def _show(plan: Build, step: str, progress: Any) -> None:
    losses = ", ".join(f"{task} {loss:.3f}" for task, loss in progress.loss.items())
    plan.report(step, progress.step / progress.steps, f"{progress.rows_per_s:.0f}/s  {losses}")


def _export(plan: Build) -> None:
    out = plan.out / "fp32"
    if (out / _GRAPH).is_file():
        return
    plan.report("export", 0.0, "")
    from models.export import export_fp32

    export_fp32(plan.trained, out)
    plan.report("export", 1.0, "")


def _quantise(plan: Build) -> None:
    if (plan.folder / _GRAPH).is_file():
        return
    plan.report("quantise", 0.0, "")
    from models.quantise import quantise

    plan.folder.mkdir(exist_ok=True)
    shutil.copyfile(plan.trained / _TOKENIZER, plan.folder / _TOKENIZER)
    labels = [f"{task}/{label}" for task, names in _labels(plan).items() for label in names]
    quantise(plan.out / "fp32" / _GRAPH, plan.folder / _GRAPH, labels, _calibration(plan))
    plan.report("quantise", 1.0, "")


def _language(plan: Build) -> None:
    if (plan.folder / GRAPH).is_file():
        return
    _need_extra()
    work = plan.out / "language"
    fit_language(plan.data, work, read_language_recipe(), plan.report)
    write_language(work, plan.folder)


def _calibration(plan: Build) -> list[Batch]:
    """Training texts of all tasks, drawn at random, as the scorer would batch them."""
    limit = plan.recipe["model"]["max_tokens"]
    tokenizer = Tokenizer.from_file(str(plan.folder / _TOKENIZER))
    tokenizer.enable_truncation(limit)
    rng = random.Random(plan.recipe["quantise"]["seed"])
    texts: list[str] = []
    for task in train_data(plan).values():
        count = min(plan.recipe["quantise"]["posts_per_task"], len(task.rows))
        texts += [clean(cut(row.text, limit)[0])[0] for row in rng.sample(task.rows, count)]
    tokens = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    return pad_batches(tokens, BATCH_TOKENS, tokenizer.token_to_id("<pad>"))


def _labels(plan: Build) -> dict[str, list[str]]:
    labels: dict[str, list[str]] = json.loads((plan.trained / "labels.json").read_text("utf-8"))
    return labels


def _evaluate(plan: Build) -> Evaluation:
    done = plan.folder / _FIGURES
    if done.is_file() and (plan.out / "manifest.toml").is_file():
        return msgspec.json.decode(done.read_bytes(), type=Evaluation)

    def report(what: str, texts: int, of: int) -> None:
        plan.report("evaluate", texts / of if of else 0.0, what)

    manifest = _undescribed(plan)
    threads = available_threads()
    bench = Bench(manifest, plan.name, fp32=plan.out / "fp32" / _GRAPH, threads=threads)
    model, calibration = calibrated(bench, dev_rows(bench.model, plan.data), report)
    bench.describe(model)
    evaluation = measure(bench, plan.data, threads, report)
    model = with_languages(model, evaluation.dev)
    report("language model, functional set", 0, 0)
    language, figures = describe_language(
        plan.data, plan.folder, read_language_recipe(), plan.version, threads
    )
    evaluation = msgspec.structs.replace(
        evaluation,
        calibration={**calibration, LANGUAGE_TASK: figures.calibration},
        language_model=figures,
        functional=_functional(bench),
    )
    write_entry(plan, with_language_model(manifest, plan.name, model, language), evaluation)
    return evaluation


def _functional(bench: Bench) -> FunctionalFigures | None:
    toxicity = bench.model.heads.get("toxicity")
    if toxicity is None or "identity_attack" not in toxicity.labels:
        return None
    return evaluate_functional(bench.scorer, functional_pairs())


def with_language_model(manifest: Manifest, name: str, model: Model, language: Model) -> Manifest:
    """The manifest of both models; the encoder answers what the language model does not."""
    other = ",".join(task for task in model.heads if task != LANGUAGE_TASK)
    beside = f"{name}-language"
    return msgspec.structs.replace(
        manifest,
        presets={name: [f"{name}:{other}", beside]},
        models={name: model, beside: language},
    )


def _undescribed(plan: Build) -> Manifest:
    """The manifest of the quantised model, before anything was measured."""
    kinds: dict[str, Literal["softmax", "sigmoid"]] = {"toxicity": "sigmoid"}
    heads: dict[str, Head] = {}
    start = 0
    for task, labels in _labels(plan).items():
        heads[task] = Head(
            activation=kinds.get(task, "softmax"),
            slice=(start, start + len(labels)),
            labels=labels,
            thresholds=dict.fromkeys(labels, 0.5) if task in kinds else {},
            top=3 if task == LANGUAGE_TASK else 0,
        )
        start += len(labels)
    settings = plan.recipe["model"]
    model = Model(
        id=settings["id"],
        version=plan.version,
        licence=settings["licence"],
        folder=plan.name,
        graph=_GRAPH,
        tokenizer=_TOKENIZER,
        max_tokens=settings["max_tokens"],
        files={file: sha256_of(plan.folder / file) for file in (_GRAPH, _TOKENIZER)},
        heads=heads,
        devices=settings["devices"],
        precision="int8",
        fused=fused_operators(plan.folder / _GRAPH),
    )
    return Manifest(
        path=plan.out / "manifest.toml",
        presets={plan.name: [plan.name]},
        models={plan.name: model},
    )


def write_entry(plan: Build, manifest: Manifest, evaluation: Evaluation) -> None:
    """Write the card, the figures and, last, the manifest."""
    model = manifest.models[plan.name]
    files = [file for entry in manifest.models.values() for file in entry.files]
    sizes = {file: (plan.folder / file).stat().st_size for file in files}
    (plan.folder / "README.md").write_text(
        model_card(plan.name, model, evaluation, plan.recipe, sizes), "utf-8"
    )
    (plan.folder / _FIGURES).write_bytes(
        msgspec.json.format(msgspec.json.encode(evaluation), indent=1)
    )
    manifest.path.write_text(manifest_toml(manifest.presets, manifest.models), "utf-8")


def _need_extra() -> None:
    try:
        import torch  # noqa: F401  # asked for its presence
        import transformers  # noqa: F401
    except ImportError as exc:
        raise ModelBuildError(
            f"this step needs a package that is not installed: {exc.name}",
            hint="`pip install 'tidegate[models]'`",
        ) from exc
