"""`tidegate score`: what the models say of one text, for people and for programs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream.cli.options import JsonOption
from stream.errors import ConfigError
from stream.records import Label, Post, encode
from stream.sources.chunks import STDIN

if TYPE_CHECKING:
    from models.explain import Explanation
    from stream.settings import ModelSettings

app = typer.Typer()
_BAR = 24
#: More of a text than this is not repeated on the screen.
_SHOWN_CHARS = 200
#: Words that are named as reasons, and the share of the effect from which on one is marked.
_TELLING = 5
_MARKED = 0.1
_ORDER = ("language", "sentiment", "toxicity")


@app.command("score")
def score(
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT", help="The text; `-` reads it from standard input.", show_default=False
        ),
    ],
    *,
    why: Annotated[
        bool, typer.Option("--explain", help="Also say which words drove the labels.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what the models make of one text.

    With --json it is the label record that the stream would write; with --explain, too, an object
    of that record (`label`) and the explanations (`explanations`).
    """
    from models.explain import explain
    from stream.labelling import label_of, model_refs
    from stream.scoring import scorer_of
    from stream.settings import load_settings

    if text == STDIN:
        text = _standard_input()
    models = load_settings().models
    scorer = scorer_of(models)
    # What a shell passes on may hold bytes that are no UTF-8; they stand there as lone surrogates.
    shown = text.encode("utf-8", "replace").decode()
    (scores,) = scorer.score([text])
    label = label_of(
        Post(id="score", text=shown),
        scores,
        model_refs(scorer.models),
        labelled_at_ms=time.time_ns() // 1_000_000,
    )
    explanations = explain(scorer, shown) if why else []
    if as_json:
        record = encode(label)
        both = {"label": msgspec.Raw(record), "explanations": explanations}
        typer.echo(msgspec.json.encode(both) if why else record)
        return
    _print(label, _thresholds(models))
    for explanation in explanations:
        _print_why(shown, explanation)


def _standard_input() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"byte {exc.start} is not UTF-8",
            where="stdin",
            hint="iconv -t utf-8 changes the encoding",
        ) from exc


def _thresholds(models: ModelSettings) -> dict[str, float]:
    """The manifest's toxicity thresholds; none for a preset that is not in it."""
    from models.manifest import load_manifest
    from stream.errors import ManifestError

    try:
        preset = load_manifest(models.manifest).preset(models.preset)
    except ManifestError:
        return {}
    return {
        label: threshold
        for model in preset.values()
        for task, head in model.heads.items()
        if task == "toxicity"
        for label, threshold in head.thresholds.items()
    }


def _print(label: Label, thresholds: dict[str, float]) -> None:
    """The tasks in a table; a toxicity score over its threshold (the mark in the bar) is red."""
    console = Console(highlight=False)
    text = label.post.text or "" if label.post else ""
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} …"
    console.print(Text(shown, style="italic"), end="\n\n")
    table = Table(box=None, show_header=False, padding=(0, 1))
    for task in [*_ORDER, *(task for task in label.labels if task not in _ORDER)]:
        answer = label.labels.get(task)
        if answer is None:
            continue
        verdict = Text(answer.label, style="bold")
        rows = answer.scores or {answer.label: answer.score}
        for name, value in rows.items():
            threshold = thresholds.get(name) if task == "toxicity" else None
            table.add_row(
                Text(task if name == next(iter(rows)) else "", style="cyan"),
                verdict if name == next(iter(rows)) else "",
                name,
                _bar(value, threshold, chosen=name == answer.label),
                f"{value:6.1%}",
            )
        table.add_section()
        table.add_row()
    console.print(table)
    if unsure := [task for task, answer in label.labels.items() if answer.unsupported]:
        console.print(Text(f"not measured in this language: {', '.join(unsure)}", style="yellow"))
    if label.truncated:
        console.print(Text("only the beginning of the text was scored", style="dim"))
    if label.cleaned:
        console.print(Text("characters that no model can read were replaced", style="dim"))
    models = sorted({f"{model.id} {model.version}" for model in label.models.values()})
    console.print(Text(", ".join(models), style="dim"))


def _bar(value: float, threshold: float | None, *, chosen: bool) -> Text:
    filled = round(value * _BAR)
    style = "bold" if chosen else ""
    if threshold is not None:
        style = "red" if value >= threshold else ""
    bar = Text("█" * filled, style=style)
    bar.append("░" * (_BAR - filled), style="dim")
    if threshold is not None:
        at = min(_BAR - 1, round(threshold * _BAR))
        bar = bar[:at] + Text("│", style="dim" if value < threshold else "red") + bar[at + 1 :]
    return bar


def _print_why(text: str, explanation: Explanation) -> None:
    """The text with the words that drove the label marked, and the most telling ones in a list."""
    console = Console(highlight=False)
    title = f"why {explanation.task} {explanation.label} {explanation.score:.1%}"
    marked = Text(text)
    telling = sorted(explanation.spans, key=lambda span: -span.share)[:_TELLING]
    for span in explanation.spans:
        if span.share >= _MARKED:
            marked.stylize(
                "bold reverse" if span.share >= 2 * _MARKED else "bold", span.start, span.end
            )
    console.print(Text(f"\n{title}", style="cyan"))
    if len(text) <= _SHOWN_CHARS * 5:
        console.print(marked)
    for span in telling:
        if span.share > 0:
            line = Text(f"  {span.share:6.1%}  ")
            line.append(span.text, style="bold")
            rest = f"  without it {span.without:.1%}, alone {span.alone:.1%}"
            console.print(line.append(rest, style="dim"))
