"""`tidegate models train`: a task from labelled texts, or from what reviewers decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stream.cli.models_progress import steps_progress
from stream.cli.options import JsonOption
from stream.cli.output import print_json
from stream.settings import load_settings

if TYPE_CHECKING:
    from models.train import Trained


def train(
    *,
    task: Annotated[
        str,
        typer.Option(help="sentiment, toxicity, language or a name of your own.", show_default=False),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="TSV or JSONL of labelled texts, as `tidegate reviews export` writes them.",
            exists=True, dir_okay=False, show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the run; the same command goes on from there.", show_default=False),
    ],
    base: Annotated[
        str, typer.Option(metavar="DIR|HUB_ID", help="What to fine-tune.")
    ] = "intfloat/multilingual-e5-small",
    revision: Annotated[
        str | None, typer.Option(help="Of the Hub id; default: main.", show_default=False)
    ] = None,
    dev: Annotated[
        Path | None,
        typer.Option(
            help="Rows to measure on; default: one in ten of the data.",
            exists=True, dir_okay=False, show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="In the manifest; default: my-TASK.", show_default=False)
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the rows.")] = 5,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better one that end it.")] = 2,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of one step.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the encoder.")] = 5e-5,
    max_tokens: Annotated[int, typer.Option(min=8, help="Of a text.")] = 128,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 1,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Manifest to write to; default: `.tidegate/models/manifest.toml`.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where the one in use is better.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Fine-tune a task, export it, compare it with the model in use, and put it in its place.

    Exit code 3: the model in use is better on the same dev rows, and nothing was replaced.
    """
    from models.manifest import load_manifest
    from models.train import put_in_place
    from models.train import train as make
    from models.training.task_run import Training
    from models.user_manifest import writable_manifest

    path = writable_manifest(manifest)
    settings = load_settings().models
    found = load_manifest(path if path.is_file() else settings.manifest)
    chosen = name or f"my-{task}"
    what = Training(
        task=task, data=data, out=out, base=base, revision=revision, dev=dev, epochs=epochs,
        patience=patience, batch_rows=batch_rows, learning_rate=learning_rate,
        max_tokens=max_tokens, seed=seed,
    )  # fmt: skip
    # A model of this name that was trained before is the one to beat, served or not.
    preset = chosen if chosen in found.presets else settings.preset
    with steps_progress() as report:
        trained = make(what, found, preset, chosen, report)
    put = trained.better or force
    served = put_in_place(trained, path) if put else None
    if as_json:
        print_json(_as_json(trained, path if put else None, served))
    else:
        _print(trained, path, served)
    if not put:
        raise typer.Exit(3)


def _as_json(trained: Trained, manifest: Path | None, preset: str | None) -> dict[str, Any]:
    return {
        "name": trained.adopted.name,
        "score": trained.score,
        "in_use": trained.in_use,
        "in_use_score": trained.in_use_score,
        "replaced": manifest is not None,
        "manifest": None if manifest is None else str(manifest),
        "preset": preset,
        "epochs": trained.epochs,
        "remarks": trained.remarks,
        "figures": trained.figures,
    }


def _print(trained: Trained, manifest: Path, preset: str | None) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    figures = trained.figures
    what = "mean ROC-AUC" if figures.several else "macro-recall"
    console.print(
        f"{trained.adopted.name}: {what} {trained.score:.3f} on {figures.rows:,} dev rows "
        f"after {trained.epochs} epochs"
    )
    if trained.in_use_score is not None:
        console.print(f"in use, {trained.in_use}: {trained.in_use_score:.3f}")
    for remark in trained.remarks:
        console.print(f"note: {remark}", style="yellow")
    if preset is None:
        console.print("not better than the one in use: nothing was replaced; `--force` does it")
        return
    console.print(f"written to {manifest}")
    console.print(
        f"serve it: TIDEGATE_MODELS__MANIFEST={manifest} TIDEGATE_MODELS__PRESET={preset}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the group `models`."""
    app.command("train")(train)
