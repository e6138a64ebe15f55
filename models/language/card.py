"""The language model's part of the card; every figure comes out of `LanguageModelFigures`."""

from __future__ import annotations

from models.language.measure import LanguageModelFigures
from models.markdown import number, table

_WEAK_LANGUAGE = 0.9


def language_section(figures: LanguageModelFigures) -> str:
    """In Markdown, with a heading of its own."""
    whole, und = figures.sentences, figures.undetermined
    rows = [
        ("sentences", whole.all, und.sentences, figures.errors["sentences"]),
        (
            "pieces of three words",
            figures.three_words,
            und.three_words,
            figures.errors["three words"],
        ),
        ("single words", figures.one_word, und.one_word, figures.errors["one word"]),
    ]
    sources = table(
        ("of dev", "rows", "accuracy", "macro-recall", "answered `und`", "calibration error"),
        (
            (name, f"{f.rows:,}", number(f.accuracy), number(f.macro_recall), f"{share:.1%}", number(e))
            for name, f, share, e in rows
        ),
    )  # fmt: skip
    weak = sorted(
        (recall, lang, count)
        for lang, (recall, count) in whole.by_language.items()
        if recall < _WEAK_LANGUAGE
    )
    every = ", ".join(
        f"{lang} {recall:.2f}" for lang, (recall, _) in sorted(whole.by_language.items())
    )
    threads = "one thread" if figures.threads == 1 else f"{figures.threads} threads"
    return (
        "### Language\n\n"
        f"A model of its own ({figures.version}; docs/models/language.md): hashed character "
        f"n-grams, {figures.bytes / 1e6:.1f} MB, {figures.texts_per_s:,.0f} texts/s where this card "
        f"was written (n-grams and graph, {threads}). {whole.labels} labels, `und` among them.\n\n"
        f"{sources}\n"
        "A piece is a run of words of a dev sentence, drawn once and for all; a letter is a word "
        "where the script has no spaces. `und` counts as a wrong answer here. It is said to "
        f"{und.gibberish:.1%} of 2,000 made-up texts of random letters, to every text without a known "
        f"n-gram (digits, emoji, signs alone), and where the best probability is under "
        f"{und.threshold:.2f}.\n\n"
        f"Recall of a sentence's language below {_WEAK_LANGUAGE}: "
        + (", ".join(f"{lang} {recall:.2f} ({rows} rows)" for recall, lang, rows in weak) or "none")
        + ".\n\nMost often mixed up (truth → answer, rows): "
        + ", ".join(f"{c.truth} → {c.answer} {c.rows}" for c in whole.confusions)
        + f".\n\nRecall of each: {every}.\n"
    )
