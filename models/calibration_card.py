"""The card's part on calibration and thresholds: what is chosen on dev, and what it gave there."""

from __future__ import annotations

from models.calibrate import (
    MIN_LANGUAGE_CLASS,
    MIN_LANGUAGE_ROWS,
    MIN_PRECISION,
    Calibrated,
)
from models.manifest import Head, Model
from models.markdown import number, table


def calibration_section(model: Model, calibration: dict[str, Calibrated]) -> str:
    """In Markdown; empty for a model that was not calibrated."""
    if not calibration:
        return ""
    errors = table(
        ("head", "method", "dev rows", "calibration error before", "after"),
        (
            (f"`{name}`", c.method, f"{c.rows:,}", number(c.before), number(c.after))
            for name, c in calibration.items()
        ),
    )
    thresholds = "".join(
        _thresholds(task, head) for task, head in model.heads.items() if head.by_language
    )
    return (
        "### Calibration\n\n"
        f"{errors}\n"
        "Expected calibration error over 15 bins of equal width; `after` is cross-validated, each "
        "row judged by a fit on the other four fifths. A probability comes true as often as it "
        "says on posts mixed as the dev sets are; where abuse is rarer, it is rarer than said.\n\n"
        f"{thresholds}"
    )


def _thresholds(task: str, head: Head) -> str:
    rows = []
    for label in head.labels:
        at = head.measured.get(label)
        if at is not None:
            own = (head.thresholds[label], at.precision, at.recall)
            rows.append(
                (f"`{label}`", "any", *map(number, own), f"{at.rows:,}", f"{at.positives:,}")
            )
        for lang, labels in head.by_language.items():
            if label in labels:
                there = labels[label]
                own = (there.threshold, there.precision, there.recall)
                rows.append(
                    (f"`{label}`", f"`{lang}`", *map(number, own), f"{there.rows:,}", f"{there.positives:,}")
                )  # fmt: skip
    return (
        f"Thresholds of {task}, by the largest F1 with a precision of at least {MIN_PRECISION}. A "
        f"language has its own where dev has {MIN_LANGUAGE_ROWS} rows of it and "
        f"{MIN_LANGUAGE_CLASS} of each answer; it counts for posts recognised as that language with a "
        "probability of at least 0.5.\n\n"
        + table(("label", "language", "threshold", "precision", "recall", "rows", "positive"), rows)
        + "\n"
    )
