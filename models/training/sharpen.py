"""The later stages: posts, contrast sentences and ordinary text, for sentiment and toxicity alone.

The toxicity sets are half abuse, of a few platforms, and follow words: of sentences from elsewhere
(a proverb, a diary) a model of theirs calls most something, and it cannot tell an attack from its
condemnation. Contrast sentences teach the second, ordinary sentences the first. A stage is a
section of the recipe (`sharpen`, `polish`); what it does not say is as in `fit`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from models.training.contrast import ContrastRow, generate, languages
from models.training.data import Row, TaskData, TaskName
from models.training.fit import Progress, fit

#: What the added rows are called where sources are counted, capped or repeated.
CONTRAST: Final = "contrast"
BACKGROUND: Final = "background"


def contrast_rows(settings: Mapping[str, Any]) -> list[ContrastRow]:
    """`contrast_per_language` sentences of each language, or what `contrast` says of one."""
    by_language: Mapping[str, int] = settings.get("contrast", {})
    return [
        row
        for code in languages()
        for row in generate(
            settings["seed"], by_language.get(code, settings["contrast_per_language"]), [code]
        )
    ]


def sharpened_data(
    data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any], stage: str = "sharpen"
) -> dict[TaskName, TaskData]:
    """Sentiment as it is, and toxicity with contrast sentences and ordinary text beside it."""
    settings = {**recipe["fit"], **recipe[stage]}
    rng = random.Random(settings["seed"])
    toxicity = data["toxicity"]
    nothing = (0,) * len(toxicity.labels)
    contrast = contrast_rows(settings)
    rng.shuffle(contrast)
    positive = data["sentiment"].labels.index("positive")
    posts = [row for row in data["sentiment"].rows if row.target == positive]
    sentences = data["language"].rows
    calm = [
        *rng.sample(sentences, min(settings["background_sentences"], len(sentences))),
        *rng.sample(posts, min(settings["background_posts"], len(posts))),
    ]
    rows = [
        *toxicity.rows,
        *(Row("toxicity", row.text, CONTRAST, row.lang, row.target) for row in contrast),
        *(Row("toxicity", row.text, BACKGROUND, row.lang, nothing) for row in calm),
    ]
    return {
        "sentiment": data["sentiment"],
        "toxicity": TaskData("toxicity", toxicity.labels, rows),
    }


def sharpen(
    fitted: Path,
    out: Path,
    data: Mapping[TaskName, TaskData],
    recipe: Mapping[str, Any],
    report: Callable[[Progress], None],
    *,
    stage: str = "sharpen",
) -> None:
    """Go on from `fitted`, the folder of the stage before, and write the model to `out`.

    Raises:
        ModelBuildError: as `models.training.fit.fit`.
    """
    settings = {**recipe, "fit": {**recipe["fit"], **recipe[stage]}}
    fit(fitted, out, sharpened_data(data, recipe, stage), settings, report)
