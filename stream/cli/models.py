"""`tidegate models`: what scores, whether its files are the right ones, how good it is, how it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stream.cli import models_adopt, models_evaluate, models_train
from stream.cli.models_evaluate import print_evaluation
from stream.cli.models_progress import steps_progress
from stream.cli.options import JsonOption
from stream.cli.output import count, print_json, print_table
from stream.settings import load_settings

if TYPE_CHECKING:
    from models.manifest import Manifest, Model

app = typer.Typer(
    name="models", help="Show, add, check, measure and make models.", no_args_is_help=True
)

ManifestOption = Annotated[
    Path | None,
    typer.Option(help="Manifest file; default: setting `models.manifest`.", show_default=False),
]
DataOption = Annotated[
    Path,
    typer.Option(
        help="Folder with TASK.dev.tsv[.gz] and so on (docs/models/data.md).",
        exists=True,
        file_okay=False,
        show_default=False,
    ),
]


def _manifest(path: Path | None) -> Manifest:
    from models.manifest import load_manifest

    settings = load_settings({"models.manifest": path})
    return load_manifest(settings.models.manifest)


@app.command("list")
def list_models(*, manifest: ManifestOption = None, as_json: JsonOption = False) -> None:
    """Presets and the models they are made of."""
    found = _manifest(manifest)
    if as_json:
        print_json(
            {
                "manifest": str(found.path),
                "presets": found.presets,
                "models": {name: _summary(model) for name, model in found.models.items()},
            }
        )
        return
    print_table(
        [
            ("preset", "left"),
            ("model", "left"),
            ("version", "left"),
            ("tasks", "left"),
            ("devices", "left"),
        ],
        [
            (preset, name, model.version, ", ".join(model.heads), ", ".join(model.devices))
            for preset in found.presets
            for name, model in found.preset(preset).items()
        ],
    )


def _summary(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "version": model.version,
        "licence": model.licence,
        "devices": model.devices,
        "tasks": {task: len(head.labels) for task, head in model.heads.items()},
    }


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The model's name in the manifest.")] = "compact",
    *,
    manifest: ManifestOption = None,
    as_json: JsonOption = False,
) -> None:
    """One model: its labels, thresholds, languages and files."""
    found = _manifest(manifest)
    model = found.model(name)
    if as_json:
        print_json(model)
        return
    console = Console()
    console.print(f"{name}  {model.id} {model.version}", style="bold", highlight=False)
    console.print(f"{model.licence}\nreads {model.max_tokens} tokens", highlight=False)
    for line in _origin(model):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for task, head in model.heads.items():
        console.print(f"\n{task}", style="bold", highlight=False)
        labels = [
            f"{label} (from {head.thresholds[label]:g})" if head.thresholds else label
            for label in head.labels
        ]
        console.print(f"  answers   {', '.join(labels)}", highlight=False, soft_wrap=True)
        measured = ", ".join(head.languages) or "not known"
        console.print(f"  measured  {measured}", highlight=False, soft_wrap=True)
    console.print("\nfiles", style="bold")
    for file, sha256 in model.files.items():
        console.print(
            f"  {found.file(model, file)}  {sha256[:16]}…", highlight=False, soft_wrap=True
        )


def _origin(model: Model) -> list[str]:
    """Where the model is from and how it was exported, as far as the manifest says it."""
    lines = []
    if model.source is not None:
        revision = f" at {model.source.revision}" if model.source.revision else ""
        lines.append(f"from {model.source.id}{revision}")
    if not model.exported:
        lines.append("not exported yet: `tidegate models export` makes its files")
    if model.precision is not None:
        fused = ", ".join(f"{count} {name}" for name, count in (model.fused or {}).items())
        lines.append(f"{model.precision}, fused: {fused or 'nothing'}")
    if model.parity is not None:
        lines.append(
            f"against PyTorch on {model.parity.posts} posts: largest change of a score "
            f"{model.parity.largest_change:.6f}, labels equal {model.parity.agreement:.1%}"
        )
    return lines


@app.command("verify")
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Only this model; default: all.", show_default=False)
    ] = None,
    *,
    manifest: ManifestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every file's sha256 with the manifest's; exit code 1 if one differs."""
    from models.manifest import NOT_EXPORTED

    found = _manifest(manifest)
    names = [name] if name is not None else list(found.models)
    checks = [check for each in names for check in found.check_files(each)]
    # A model that nobody asked for by name may be a plan still.
    problems = sum(
        check.problem is not None and (check.problem != NOT_EXPORTED or name is not None)
        for check in checks
    )
    if as_json:
        print_json(
            {
                "ok": problems == 0,
                "files": [
                    {
                        **check._asdict(),
                        "path": str(found.file(found.model(check.model), check.file)),
                    }
                    for check in checks
                ],
            }
        )
    else:
        print_table(
            [("model", "left"), ("file", "left"), ("bytes", "right"), ("", "left")],
            [
                (check.model, check.file, count(check.size), check.problem or "ok")
                for check in checks
            ],
        )
    if problems:
        raise typer.Exit(1)


@app.command("build")
def build(
    *,
    data: DataOption,
    out: Annotated[
        Path, typer.Option(help="Folder for everything that is made.", show_default=False)
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|HUB_ID",
            help="What to fine-tune; default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with every number; default: the recipe of `compact`.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model in the manifest.")] = "compact",
    version: Annotated[
        str | None, typer.Option(help="Default: today's date.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model: base, stages of training, export, quantise, evaluate, card, manifest.

    The same command goes on where a build was interrupted. OUT/manifest.toml serves the result:
    set `models.manifest` to it.
    """
    from importlib import resources

    from models.build import Build, read_recipe, today
    from models.build import build as make

    path = recipe or Path(str(resources.files("models") / "training" / "compact.toml"))
    with steps_progress() as report:
        evaluation = make(
            Build(
                name=name,
                data=data,
                out=out,
                recipe=read_recipe(path),
                base=base,
                version=version or today(),
                report=report,
            )
        )
    print_evaluation(evaluation, as_json=as_json)


models_evaluate.register(app)
models_train.register(app)
models_adopt.register(app)
