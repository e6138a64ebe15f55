"""`python -m models.functional`: the functional figures of a model, as a table or as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models.errors import TidegateError
from models.functional import FunctionalFigures, SetFigures, evaluate_functional, functional_pairs
from models.functional.pairs import functional_languages
from models.scorer import load_scorer


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.functional", description=__doc__)
    parser.add_argument("--manifest", type=Path, help="default: the one that is shipped")
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--lang",
        action="append",
        choices=sorted({each.code for each in functional_languages()}),
        help="only this language; may be given more than once",
    )
    parser.add_argument("--json", action="store_true", help="every figure, also by function")
    parser.add_argument(
        "--pairs", action="store_true", help="print the pairs as JSON lines and score nothing"
    )
    return parser.parse_args(arguments)


def _table(head: str, rows: Iterable[tuple[str, SetFigures]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(head)
    for name in ("pairs", "ROC-AUC", "ordered"):
        table.add_column(name, justify="right")
    for name, figures in rows:
        table.add_row(name, str(figures.pairs), f"{figures.roc_auc:.3f}", f"{figures.ordered:.3f}")
    return table


def _print(figures: FunctionalFigures) -> None:
    console = Console()
    console.print(
        f"identity_attack, {figures.model} {figures.version}, {figures.pairs} pairs\n",
        highlight=False,
    )
    console.print(_table("language", figures.languages.items()))
    console.print(
        f"\nmean over languages: ROC-AUC {figures.mean_roc_auc:.3f}, "
        f"ordered {figures.mean_ordered:.3f}\n",
        highlight=False,
    )
    console.print(_table("function", figures.functions.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    asked = _parse(arguments)
    pairs = functional_pairs(asked.lang)
    if asked.pairs:
        for pair in pairs:
            sys.stdout.write(msgspec.json.encode(pair._asdict()).decode() + "\n")
        return 0
    try:
        scorer = load_scorer(asked.manifest, asked.preset, device=asked.device)
        errors = Console(stderr=True)
        with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task("scoring", total=2 * len(pairs))
            figures = evaluate_functional(
                scorer, pairs, lambda count: progress.advance(task, count)
            )
    except TidegateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if asked.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(figures)).decode() + "\n")
    else:
        _print(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
