"""Says in Markdown what an evaluation of one task measured; every figure comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.assess import SliceFigures, TaskEvaluation
from models.identity import IdentityFigures

_FIRST_LABELS = 12


def task_card(figures: TaskEvaluation) -> str:
    """A section of a model card."""
    parts = [
        f"## `{figures.task}` of {figures.model} {figures.version}\n",
        (
            f"{figures.rows:,} rows of `{figures.data}`, {figures.posts_per_s:,.0f} posts/s where this "
            f"was measured, {figures.truncated:,} truncated. Expected calibration error "
            f"{figures.ece:.3f}. Written by `tidegate models evaluate --card`.\n"
        ),
        _slices("all", {"all": figures.all}, several=figures.several),
        "### Labels\n",
        _labels(figures),
    ]
    for name, slices in figures.slices.items():
        parts += [f"### By `{name}`\n", _slices(name, slices, several=figures.several)]
    if len(figures.confusion_labels) <= _FIRST_LABELS:
        parts += ["### Truth (rows) and answer (columns)\n", _confusion(figures)]
    parts += [_identity(group) for group in figures.identity]
    parts.append(
        "### Held-back test sets\n\nNot measured here; left blank for whoever holds them.\n"
    )
    return "\n".join(parts).rstrip() + "\n"


def _labels(figures: TaskEvaluation) -> str:
    shown = list(figures.labels.items())
    if len(shown) > _FIRST_LABELS:
        shown = sorted(shown, key=lambda item: item[1].at.f1)[: 2 * _FIRST_LABELS]
    note = "" if len(shown) == len(figures.labels) else "The weakest.\n\n"
    return note + _table(
        ("label", "rows", "positive", "ROC-AUC", "average precision", "threshold", "precision",
         "recall", "F1", "ECE"),
        (
            (
                f"`{label}`", f"{f.detection.rows:,}", f"{f.detection.positives:,}",
                _f(f.detection.roc_auc), _f(f.detection.average_precision),
                _f(f.at.threshold) if figures.several else "the answer", _f(f.at.precision),
                _f(f.at.recall), _f(f.at.f1), _f(f.ece),
            )
            for label, f in shown
        ),
    )  # fmt: skip


def _slices(name: str, slices: dict[str, SliceFigures], *, several: bool) -> str:
    head = [name, "rows", "macro-recall", "macro-F1", "accuracy"]
    head += ["ROC-AUC", "average precision"] if several else []
    return _table(
        [*head, "marked unsupported"],
        (
            [
                value, f"{f.rows:,}", _f(f.macro_recall), _f(f.macro_f1), _f(f.accuracy),
                *([_f(f.roc_auc), _f(f.average_precision)] if several else []),
                f"{f.unsupported:.0%}",
            ]
            for value, f in slices.items()
        ),
    )  # fmt: skip


def _confusion(figures: TaskEvaluation) -> str:
    names = figures.confusion_labels
    return _table(
        ["", *names],
        (
            [name, *(f"{n:,}" for n in row)]
            for name, row in zip(names, figures.confusion, strict=True)
        ),
    )


def _identity(figures: IdentityFigures) -> str:
    table = _table(
        ("mentions", "rows", "positive", "false positives", "subgroup AUC", "BPSN AUC", "BNSP AUC"),
        (
            (
                group, f"{f.rows:,}", f"{f.positives:,}", _f(f.false_positive_rate),
                _f(f.subgroup_auc), _f(f.bpsn_auc), _f(f.bnsp_auc),
            )
            for group, f in figures.groups.items()
        ),
    )  # fmt: skip
    return (
        f"### Groups of people, `{figures.label}`\n\n"
        f"Texts that mention none: {figures.background_rows:,}, false positives "
        f"{_f(figures.background_false_positive_rate)}. A group is found by neutral words for it "
        "(`models/identity.py`). Low BPSN: harmless texts about the group look like abuse.\n\n"
        f"{table}"
    )


def _f(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
