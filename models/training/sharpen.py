"""The second stage: posts, contrast sentences and ordinary text, for sentiment and toxicity alone.

The toxicity sets are half abuse, of a few platforms, and follow words: of sentences from elsewhere
(a proverb, a diary) a model of theirs calls most something, and it cannot tell an attack from its
condemnation. Contrast sentences teach the second, ordinary sentences the first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from models.training.contrast import generate
from models.training.data import Row, TaskData, TaskName
from models.training.fit import Progress, fit

#: What the added rows are called where sources are counted, capped or repeated.
CONTRAST: Final = "contrast"
BACKGROUND: Final = "background"


def sharpened_data(
    data: Mapping[TaskName, TaskData], recipe: Mapping[str, Any]
) -> dict[TaskName, TaskData]:
    """Sentiment as it is, and toxicity with contrast sentences and ordinary text beside it."""
    settings = recipe["sharpen"]
    rng = random.Random(recipe["fit"]["seed"])
    toxicity = data["toxicity"]
    nothing = (0,) * len(toxicity.labels)
    contrast = generate(recipe["fit"]["seed"], settings["contrast_per_language"])
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
) -> None:
    """Go on from `fitted`, the first stage's folder, and write the model to `out`.

    Raises:
        ModelBuildError: as `models.training.fit.fit`.
    """
    stage = {**recipe, "fit": {**recipe["fit"], **recipe["sharpen"]}}
    fit(fitted, out, sharpened_data(data, recipe), stage, report)
