"""`tidegate models evaluate`: a whole model on a folder of dev sets, or one task on one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.models_progress import steps_progress
from stream.cli.options import JsonOption
from stream.cli.output import count, print_json, print_table
from stream.errors import ConfigError
from stream.settings import load_settings

if TYPE_CHECKING:
    from models.assess import SliceFigures, TaskEvaluation
    from models.evaluate import Evaluation
    from models.manifest import Manifest


def evaluate(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="Labelled texts: a TSV or JSONL file for --task, or a folder of dev sets "
            "(docs/models/data.md) for everything.",
            exists=True,
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(help="The model's name in the manifest, or a preset's.")
    ] = "compact",
    task: Annotated[
        str | None, typer.Option(help="The task to measure on a file.", show_default=False)
    ] = None,
    slices: Annotated[str, typer.Option(help="Columns to give the figures by.")] = "lang,source",
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also draw reliability, confusion, precision and recall as PNG.",
            show_default=False,
        ),
    ] = None,
    fp32: Annotated[
        Path | None,
        typer.Option(
            help="With a folder: its fp32 export, to say how far the two graphs are apart.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: every core.")] = 0,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest file; default: setting `models.manifest`.", show_default=False),
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Print a section of a model card.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model: quality by label and slice, calibration, groups of people, speed."""
    from models.manifest import load_manifest

    found = load_manifest(load_settings({"models.manifest": manifest}).models.manifest)
    if data.is_dir():
        if task is not None or card or plots is not None:
            raise ConfigError(
                "`--task`, `--card` and `--plots` want a file of labelled texts",
                where=str(data),
                hint=f"such as `--data {data}/{task or 'sentiment'}.dev.tsv`",
            )
        _evaluate_folder(found, model, data, fp32=fp32, threads=threads, as_json=as_json)
        return
    if task is None:
        raise ConfigError("`--task` is missing", hint="say which task the file is about")
    from models.assess import assess
    from models.task_card import task_card

    with steps_progress() as report:
        assessed = assess(
            found,
            model,
            task,
            data,
            slices=[name.strip() for name in slices.split(",") if name.strip()],
            threads=threads,
            device=load_settings().models.device,
            second_views=load_settings().models.second_views,
            report=lambda done, of: report("evaluate", done / of, task),
        )
    files: list[Path] = []
    if plots is not None:
        from models.plots import write_plots

        files = write_plots(assessed, plots)
    if as_json:
        print_json(assessed.figures)
    elif card:
        typer.echo(task_card(assessed.figures))
    else:
        _print_task(assessed.figures)
    for file in files:
        typer.echo(f"drawn: {file}", err=True)


def _print_task(figures: TaskEvaluation) -> None:
    columns = ["rows", "macro-recall", "macro-F1", "accuracy"]
    columns += ["ROC-AUC", "average precision"] if figures.several else []
    rows = [("all", figures.all)]
    rows += [
        (f"{name} {value}", part)
        for name, parts in figures.slices.items()
        for value, part in parts.items()
    ]

    def cells(part: SliceFigures) -> list[str]:
        values = [part.macro_recall, part.macro_f1, part.accuracy]
        more = [part.roc_auc, part.average_precision] if figures.several else []
        return [count(part.rows), *("-" if v is None else f"{v:.3f}" for v in [*values, *more])]

    print_table(
        [("", "left"), *((column, "right") for column in columns)],
        [(name, *cells(part)) for name, part in rows],
        title=f"{figures.model} {figures.version}: {figures.task}",
    )
    shown = sorted(figures.labels.items(), key=lambda item: item[1].at.f1)
    print_table(
        [("label", "left"), ("positive", "right"), ("ROC-AUC", "right"), ("AP", "right"),
         ("precision", "right"), ("recall", "right"), ("F1", "right"), ("ECE", "right")],
        [
            (
                label, count(f.detection.positives),
                *("-" if v is None else f"{v:.3f}" for v in (
                    f.detection.roc_auc, f.detection.average_precision, f.at.precision,
                    f.at.recall, f.at.f1, f.ece,
                )),
            )
            for label, f in (shown[:24] if len(shown) > 24 else figures.labels.items())
        ],
        title="labels" if len(shown) <= 24 else "the weakest labels",
    )  # fmt: skip
    for identity in figures.identity:
        print_table(
            [("mentions", "left"), ("rows", "right"), ("false positives", "right"),
             ("subgroup AUC", "right"), ("BPSN AUC", "right"), ("BNSP AUC", "right")],
            [
                (group, count(f.rows), *("-" if v is None else f"{v:.3f}" for v in (
                    f.false_positive_rate, f.subgroup_auc, f.bpsn_auc, f.bnsp_auc)))
                for group, f in identity.groups.items()
            ],
            title=f"groups of people: {identity.label}",
        )  # fmt: skip
    typer.echo(
        f"calibration error {figures.ece:.3f}, {figures.posts_per_s:,.0f} posts/s, "
        f"{figures.truncated:,} truncated",
    )


def _evaluate_folder(
    found: Manifest, model: str, data: Path, *, fp32: Path | None, threads: int, as_json: bool
) -> None:
    from models.evaluate import evaluate as measure

    found.verify(model)
    with steps_progress() as report:
        evaluation = measure(
            found,
            model,
            data,
            fp32=fp32,
            threads=threads,
            report=lambda what, done, of: report(what, done / of if of else 0.0, ""),
        )
    print_evaluation(evaluation, as_json=as_json)


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """The evaluation of a whole model."""
    if as_json:
        print_json(evaluation)
        return
    rows = [(name, f"{value:.3f}") for name, value in evaluation.dev.keys().items()]
    again, speed = evaluation.rebatching, evaluation.speed
    rows.append(("labels changed by other batch-mates", str(sum(again.flips.values()))))
    rows.append(("largest change of a score by them", f"{again.largest_change:.1e}"))
    if evaluation.parity is not None:
        parity = evaluation.parity
        rows.append(("labels as fp32, sentiment", f"{parity.sentiment:.1%}"))
        rows.append(("labels as fp32, toxic", f"{parity.toxic:.1%}"))
        rows.append(("labels as fp32, language", f"{parity.language:.1%}"))
    rows.append(("posts/s", f"{speed.scoring:.0f}"))
    if speed.ratio is not None:
        rows.append(("times the speed of fp32", f"{speed.ratio:.2f}"))
    print_table(
        [("figure", "left"), ("", "right")], rows, title=f"{evaluation.model} {evaluation.version}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the group `models`."""
    app.command("evaluate")(evaluate)
