"""What one pass over the training texts is: posts, contrast sentences and ordinary text.

The toxicity sets are half abuse, of a few platforms, and follow words: of sentences from elsewhere
(a proverb, a diary) a model of theirs calls most something, and it cannot tell an attack from its
condemnation. Contrast sentences teach the second, ordinary sentences the first. A pass draws its
own rows, sentences and spellings; the same recipe and number give the same pass.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

from models.training.contrast import ContrastRow, generate, languages
from models.training.contrast.perturb import perturb
from models.training.data import CONTRAST, Row, TaskData, TaskName, cap_sources, draw_epochs

#: What the other added rows are called where sources are counted.
BACKGROUND: Final = "background"
UNLABELLED: Final = "unlabelled"


def contrast_rows(settings: Mapping[str, Any], number: int) -> list[ContrastRow]:
    """`contrast_per_language` sentences of each language, or what `contrast` says of one."""
    by_language: Mapping[str, int] = settings.get("contrast", {})
    return [
        row
        for code in languages()
        for row in generate(
            settings["seed"] + number,
            by_language.get(code, settings["contrast_per_language"]),
            [code],
        )
    ]


def draw_pass(
    data: Mapping[TaskName, TaskData], settings: Mapping[str, Any], number: int
) -> list[Row]:
    """The rows of pass `number`, in no order.

    Args:
        data: the training rows of every task; those of language are ordinary text here.
        settings: section `draw` of the recipe, with what a stage says otherwise.
        number: of the pass; another one is another draw.
    """
    rng = random.Random(settings["seed"] + number)
    sentiment, toxicity = data["sentiment"], data["toxicity"]
    nothing, unknown = ((value,) * len(toxicity.labels) for value in (0, -1))
    positive = sentiment.labels.index("positive")
    sentences = data["language"].rows
    calm = [
        *_some(sentences, settings["background_sentences"], rng),
        *_some(
            [row for row in sentiment.rows if row.target == positive],
            settings["background_posts"],
            rng,
        ),
    ]
    rows = [
        *cap_sources(toxicity.rows, settings.get("caps", {}), rng),
        *(
            Row("toxicity", row.text, CONTRAST, row.lang, row.target)
            for row in contrast_rows(settings, number)
        ),
        *(Row("toxicity", row.text, BACKGROUND, row.lang, nothing) for row in calm),
    ]
    posts = [row for row in sentiment.rows if row.lang not in settings.get("leave_out", ())]
    shares: Mapping[str, float] = settings.get("shares", {})
    other = _some(sentences, settings.get("unlabelled_sentences", 0), rng)
    return [
        *(_spelt(row, settings, rng) for row in rows),
        *(_lowered(row, settings, rng) for row in draw_epochs(posts, 1.0, rng, shares)),
        *(Row("toxicity", row.text, UNLABELLED, row.lang, unknown) for row in other),
    ]


def _some(rows: list[Row], wanted: int, rng: random.Random) -> list[Row]:
    return rng.sample(rows, min(wanted, len(rows)))


def _spelt(row: Row, settings: Mapping[str, Any], rng: random.Random) -> Row:
    if rng.random() < settings["disguised_share"]:
        cased = row.text.lower() != row.text.upper()
        row = Row(row.task, perturb(row.text, rng, cased=cased), row.source, row.lang, row.target)
    return _lowered(row, settings, rng)


def _lowered(row: Row, settings: Mapping[str, Any], rng: random.Random) -> Row:
    if rng.random() >= settings["lowercase_share"]:
        return row
    return Row(row.task, row.text.lower(), row.source, row.lang, row.target)
