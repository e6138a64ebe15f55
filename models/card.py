"""Writes the model card from what was measured: every figure on it comes out of an `Evaluation`.

What the figures cannot say, the known weaknesses, stands here as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from models.calibration_card import calibration_section
from models.evaluate import Evaluation, Parity
from models.figures import LanguageFigures, SentimentFigures, ToxicityFigures
from models.functional.card import functional_section
from models.language.card import language_section
from models.manifest import Model
from models.markdown import number, table

_WEAK_LANGUAGE = 0.75

#: (test set, task, figure): the standard test parts, which no step of a build reads.
_HELD_BACK: Final = (
    ("TweetEval sentiment", "sentiment", "macro-recall"),
    ("UMSAB, each language", "sentiment", "macro-F1"),
    ("TweetEval offensive", "toxicity", "ROC-AUC of `toxic`, macro-F1"),
    ("Jigsaw toxic comments", "toxicity", "mean ROC-AUC of six labels"),
    ("EDOS", "toxicity", "ROC-AUC of `toxic`"),
    ("HateCheck, and its languages", "toxicity", "ROC-AUC of `identity_attack`"),
    ("lingua's sentences, word pairs, words", "language", "accuracy"),
)
_LIMITS = """\
- **Words as well as meaning.** A model of this size and these data reacts to slurs and profanity.
  A friendly swear word scores high; contempt in polite words scores low; denial and irony often
  score like what they resemble: the functional set above says how often.
  Use the scores to sort what people look at, not to punish.
- **`toxic` is not `identity_attack`.** An insult to one person is toxic and no attack on a group.
  Rules about hate should read `identity_attack`, and its figures are the weaker ones.
- **`threat` is hardly learnt**: it has a few hundred examples and misses most of what it is named
  after. `severe_toxic` has few examples, too.
- **English first.** A task claims the languages in the table only: those with at least 100 dev
  rows (10 for the language task) and figures clearly better than chance, which leaves out sentiment of
  Hindi in Latin letters. For every other language that is recognised with a
  probability of at least 0.5 a label carries `unsupported: true`: the scores are there because the
  encoder is multilingual, and they are not to be trusted silently.
- **Dialects and reclaimed words.** The sets are known to mark African-American English and
  in-group use of slurs as toxic more often than other texts. Nothing here corrects that.
- **Language** of single words is wrong for more than one in four, and close relatives are mixed up
  (Bosnian, Croatian, Serbian; Indonesian, Malay; Norwegian Bokmål, Nynorsk, Danish; Galician,
  Spanish, Catalan). Romanised Hindi is rarely recognised.
- **Windows of {max_tokens} tokens.** A longer post is read in up to four of them (docs/models/robustness.md); what
  lies beyond is not read, and the label is marked `truncated`.
- The dev sets come from the same sources as the training texts. On posts of another platform or
  another year expect less.
"""


def model_card(
    name: str,
    model: Model,
    evaluation: Evaluation,
    recipe: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> str:
    """The card of `model` in Markdown; `sizes` are its files' bytes."""
    total = sum(sizes.values()) / 1e6
    parts = [
        f"# `{name}` {model.version}\n",
        (
            f"{model.id}: one multilingual encoder for {' and '.join(model.heads)} in one pass, and "
            f"a model of character n-grams for the language; {total:.0f} MB in all, for any CPU. "
            "Written by `tidegate models build`; do not edit.\n"
        ),
        "## What it answers\n",
        table(
            ("task", "labels", "activation", "languages it claims"),
            (
                (
                    task,
                    f"{len(head.labels)} languages"
                    if len(head.labels) > 12
                    else ", ".join(head.labels),
                    head.activation,
                    ", ".join(head.languages)
                    if len(head.languages) <= 12
                    else f"{len(head.languages)}",
                )
                for task, head in model.heads.items()
            ),
        ),
        _training(recipe),
        "## Figures on the dev sets\n",
        "All with the int8 graph of this folder, as the worker runs it.\n",
    ]
    if evaluation.dev.sentiment is not None:
        parts.append(_sentiment(evaluation.dev.sentiment))
    if evaluation.dev.toxicity is not None:
        parts.append(_toxicity(evaluation.dev.toxicity))
    if evaluation.functional is not None:
        parts.append(functional_section(evaluation.functional))
    if evaluation.language_model is not None:
        parts.append(language_section(evaluation.language_model))
    elif evaluation.dev.language is not None:
        parts.append(_language(evaluation.dev.language))
    parts.append(calibration_section(model, evaluation.calibration))
    parts.append(_exactness(evaluation))
    parts += [
        _held_back(),
        "## Limits\n",
        _LIMITS.format(max_tokens=model.max_tokens),
        _rebuild(name),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _held_back() -> str:
    return (
        "## Held-back test sets\n\n"
        "The test parts of these sets were not seen: not in training, not for a threshold, not to choose "
        "between weights. They are left blank here, to be measured from outside (`tidegate models "
        "evaluate --task T --data FILE`).\n\n"
    ) + table(("test set", "task", "figure", "measured"), ((*row, " ") for row in _HELD_BACK))


def _stages(recipe: Mapping[str, Any]) -> str:
    """What the recipe's stages do, a sentence each."""
    told = []
    for stage in recipe["stage"]:
        settings = {**recipe["fit"], **stage}
        what = (
            f"{settings['layers']} layers of `{stage['from']}`"
            if "layers" in stage
            else (
                f"goes on from `{stage['from']}`" if "from" in stage else "every layer of the base"
            )
        )
        taught = stage.get("teachers")
        source = (
            f"what {', '.join(f'`{name}`' for name in taught)} say together, and the labels "
            f"(weight {settings['hard_weight']})"
            if taught
            else "the labels"
        )
        told.append(f"- `{stage['name']}`: {what}; learns {source} in {settings['passes']} passes")
    return "\n".join(told)


def _training(recipe: Mapping[str, Any]) -> str:
    base, drawn = recipe["base"], recipe["draw"]
    sources = table(
        ("for", "source", "what", "licence"),
        ((d["task"], d["source"], d["what"], d["licence"]) for d in recipe.get("data", [])),
    )
    own = "".join(f", {count:,} {code}" for code, count in drawn.get("contrast", {}).items())
    return (
        "## How it was made\n\n"
        f"Base: `{base['source']}` ({base['licence']}), {base['layers']} layers, with the "
        f"{base['vocab_size']:,} pieces most used by the training texts, besides every single "
        "character. A pass over the training texts draws capped sources, contrast sentences written "
        f"for it ({drawn['contrast_per_language']:,} a language{own}) and ordinary text "
        f"({drawn['background_sentences'] + drawn['background_posts']:,} texts) as not toxic. Stages:\n\n"
        f"{_stages(recipe)}\n\n"
        "Then exported with Optimum and written as static int8 (docs/models/quantisation.md). The "
        "recipe with every number is `models/training/compact.toml`.\n\n"
        f"{sources}\n"
        "Some of the sets may be used for research only. The weights hold none of their texts, "
        "but whoever uses the model commercially should judge that for themselves, or rebuild it "
        "without them.\n"
    )


def _sentiment(figures: SentimentFigures) -> str:
    rows = [("all", figures.all), *figures.by_source.items()]
    rows += [(f"language `{lang}`", part) for lang, part in figures.by_language.items()]
    return "### Sentiment\n\n" + table(
        ("rows of", "rows", "macro-recall", "accuracy", "macro-F1"),
        (
            (name, f"{f.rows:,}", number(f.macro_recall), number(f.accuracy), number(f.macro_f1))
            for name, f in rows
        ),
    )


def _toxicity(figures: ToxicityFigures) -> str:
    labels = table(
        (
            "label", "rows", "positive", "ROC-AUC", "average precision", "ROC-AUC, English rows",
            "threshold", "precision", "recall", "F1",
        ),
        (
            (
                f"`{label}`", f"{f.all.rows:,}", f"{f.all.positives:,}", number(f.all.roc_auc),
                number(f.all.average_precision), number(f.english.roc_auc), number(f.at.threshold),
                number(f.at.precision), number(f.at.recall), number(f.at.f1),
            )
            for label, f in figures.labels.items()
        ),
    )  # fmt: skip
    where = [*figures.by_source.items()]
    where += [(f"language `{lang}`", part) for lang, part in figures.by_language.items()]
    toxic = table(
        ("`toxic`, rows of", "rows", "positive", "ROC-AUC", "average precision"),
        (
            (
                name,
                f"{f.rows:,}",
                f"{f.positives:,}",
                number(f.roc_auc),
                number(f.average_precision),
            )
            for name, f in where
        ),
    )
    return (
        "### Toxicity\n\n"
        f"{labels}\nEach threshold is the one with the largest F1 on these same rows among those with "
        "a precision of at least 0.5 (0.5 where there is none), so "
        "precision, recall and F1 at it are a little flattered; and the rows hold far more abuse "
        "than a stream does, so expect a lower precision there. `-`: one class only.\n\n"
        f"{toxic}"
    )


def _language(figures: LanguageFigures) -> str:
    weak = sorted(
        (recall, lang, rows)
        for lang, (recall, rows) in figures.by_language.items()
        if recall < _WEAK_LANGUAGE
    )
    sources = table(
        ("rows of", "rows", "accuracy", "macro-recall"),
        (
            (name, f"{f.rows:,}", number(f.accuracy), number(f.macro_recall))
            for name, f in [("all", figures.all), *figures.by_source.items()]
        ),
    )
    every = ", ".join(
        f"{lang} {recall:.2f}" for lang, (recall, _) in sorted(figures.by_language.items())
    )
    return (
        f"### Language\n\n{figures.labels} languages.\n\n{sources}\n"
        f"Below {_WEAK_LANGUAGE}: "
        + (", ".join(f"{lang} {recall:.2f} ({rows} rows)" for recall, lang, rows in weak) or "none")
        + ".\n\nMost often mixed up (truth → answer, rows): "
        + ", ".join(f"{c.truth} → {c.answer} {c.rows}" for c in figures.confusions)
        + f".\n\nRecall of each: {every}.\n"
    )


def _exactness(evaluation: Evaluation) -> str:
    again, speed = evaluation.rebatching, evaluation.speed
    flips = ", ".join(f"{task} {count}" for task, count in again.flips.items())
    lines = [
        "## The same score in every batch\n",
        (
            f"{again.texts:,} posts scored twice, in another order and with other batch-mates: labels "
            f"that changed: {flips}; largest change of any score: {again.largest_change:.1e}.\n"
        ),
    ]
    if evaluation.parity is not None:
        lines.append(_parity(evaluation.parity))
    ratio = (
        f"; session alone {speed.session:.0f}, the fp32 graph in the same alternating runs "
        f"{speed.fp32_session:.0f}: {speed.ratio:.1f} times"
        if speed.fp32_session is not None
        else ""
    )
    lines.append(
        f"Speed where this card was written ({_threads(speed.threads)}, {speed.posts:,} posts): "
        f"{speed.scoring:.0f} posts/s for tokenising, inference and answers{ratio}.\n"
    )
    return "\n".join(lines)


def _parity(parity: Parity) -> str:
    dev = table(
        ("dev figure", "int8", "fp32", "difference"),
        (
            (name, f"{served:.4f}", f"{exact:.4f}", f"{served - exact:+.4f}")
            for name, (served, exact) in parity.dev.items()
        ),
    )
    return (
        f"Against the fp32 graph on {parity.texts:,} posts, labels equal: sentiment "
        f"{parity.sentiment:.1%}, `toxic` at its threshold {parity.toxic:.1%}, toxicity label "
        f"{parity.toxicity:.1%}, language {parity.language:.1%}; mean change of the score "
        f"`toxic` {parity.toxic_mean_change:.4f}, largest {parity.toxic_largest_change:.3f}.\n\n"
        f"{dev}"
    )


def _rebuild(name: str) -> str:
    return (
        "## Make it again\n\n"
        "```sh\npip install 'tidegate[cpu,models]'\n"
        "tidegate models build --data DATA --base intfloat/multilingual-e5-small --out BUILD\n"
        "```\n\n"
        "About 70 minutes on two cores. DATA is a folder as docs/models/data.md describes it; "
        f"`BUILD/{name}` then holds this folder's files and `BUILD/manifest.toml` the entry.\n"
    )


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"
