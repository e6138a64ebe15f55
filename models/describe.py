"""What a model's dev rows say about serving it: calibration, thresholds, languages it may claim.

All of it is chosen on the same dev rows that the card's figures come from, and the card says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from models.calibrate import (
    Calibrated,
    calibrate_sigmoid,
    calibrate_softmax,
    language_thresholds,
    measured_thresholds,
)
from models.evaluate import Bench, DevFigures, Report
from models.figures import (
    choose_thresholds,
    recognised_languages,
    sentiment_languages,
    toxicity_languages,
)
from models.heads import HeadReader
from models.manifest import LANGUAGE_TASK, Model
from models.training.data import TaskData, TaskName


def calibrated(
    bench: Bench, rows: Mapping[TaskName, TaskData], report: Report
) -> tuple[Model, dict[str, Calibrated]]:
    """The model's entry with calibration and thresholds chosen on `rows`, and what it changed.

    The figures are by head, for a sigmoid head by `task label`.
    """
    heads = dict(bench.model.heads)
    figures: dict[str, Calibrated] = {}
    for task, part in rows.items():
        head = heads[task]
        logits = bench.dev_logits(task, part, report)
        truth = np.array([row.target for row in part.rows])
        own = logits[:, slice(*head.slice)]
        if head.activation == "softmax":
            heads[task], figures[task] = calibrate_softmax(head, own, truth)
            continue
        head, of_labels = calibrate_sigmoid(head, own, truth)
        figures |= {f"{task} {label}": found for label, found in of_labels.items()}
        probabilities = HeadReader(head).probabilities(logits)
        thresholds = choose_thresholds(part.rows, probabilities, head)
        heads[task] = msgspec.structs.replace(
            head,
            thresholds=thresholds,
            measured=measured_thresholds(thresholds, head, probabilities, truth),
            by_language=language_thresholds(
                head, probabilities, truth, [row.lang for row in part.rows]
            ),
        )
    return msgspec.structs.replace(bench.model, heads=heads), figures


def with_languages(model: Model, dev: DevFigures) -> Model:
    """The model's entry with the languages that each task may claim by its dev figures."""
    claimed: dict[str, list[str]] = {}
    if dev.sentiment is not None:
        claimed["sentiment"] = sentiment_languages(dev.sentiment)
    if dev.toxicity is not None:
        claimed["toxicity"] = toxicity_languages(dev.toxicity)
    if dev.language is not None:
        claimed[LANGUAGE_TASK] = recognised_languages(dev.language)
    heads = {
        task: msgspec.structs.replace(head, languages=claimed.get(task, []))
        for task, head in model.heads.items()
    }
    return msgspec.structs.replace(model, heads=heads)
