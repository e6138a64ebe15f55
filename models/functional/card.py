"""The functional set's section of a model card."""

from __future__ import annotations

from models.functional.evaluate import FunctionalFigures
from models.markdown import number, table


def functional_section(figures: FunctionalFigures) -> str:
    """ROC-AUC and the share of pairs ordered rightly, by language and by function."""
    languages = table(
        ("language", "pairs", "ROC-AUC", "ordered rightly"),
        (
            (lang, f"{each.pairs:,}", number(each.roc_auc), number(each.ordered))
            for lang, each in figures.languages.items()
        ),
    )
    functions = table(
        ("function", "pairs", "ROC-AUC", "ordered rightly"),
        (
            (name.replace("_", " "), f"{each.pairs:,}", number(each.roc_auc), number(each.ordered))
            for name, each in figures.functions.items()
        ),
    )
    return (
        "### Attack or only alike: `identity_attack` on the functional set\n\n"
        f"{figures.pairs:,} pairs of an attack on a group and a text of nearly the same words that "
        "is none (its negation, its quotation, the same said of a thing), written for this project "
        "apart from the training templates (docs/models/functional.md). Chance is 0.5; mean over "
        f"the languages: ROC-AUC {number(figures.mean_roc_auc)}, ordered rightly "
        f"{number(figures.mean_ordered)}.\n\n{languages}\n{functions}"
    )
