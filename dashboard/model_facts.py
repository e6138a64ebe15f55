"""What is known of the models in force: from the manifest, the files beside the graph, the reviews.

Invariant: figures of another version than the manifest's are not shown as this one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dashboard.database import Database
from dashboard.queries.scores import Drift
from models.contradictions import member_tasks
from models.dev_scores import DevScores, read_dev_scores
from models.evaluate import Evaluation
from models.manifest import Head, Manifest, Model, load_manifest

#: The usual limits of the population stability index (Siddiqi 2006).
_STEADY: Final = 0.1
_MOVED: Final = 0.25
_CARD: Final = "README.md"
_FIGURES: Final = "evaluation.json"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model of the preset: `heads` are the tasks it answers there."""

    name: str
    model: Model
    heads: dict[str, Head]
    size_bytes: int
    card: str | None
    evaluation: Evaluation | None
    dev_scores: DevScores | None

    @property
    def tasks(self) -> list[str]:
        """The tasks it answers."""
        return list(self.heads)


class Override(NamedTuple):
    """Reviewed posts of a language on which the model said `label`; people decided otherwise."""

    label: str
    language: str
    judged: int
    overridden: int


def model_facts(manifest_path: str | None, preset: str) -> list[ModelFacts]:
    """Every model of a preset.

    Raises:
        ManifestError: the manifest cannot be used, or has no such preset.
    """
    manifest = load_manifest(None if manifest_path is None else Path(manifest_path))
    manifest.preset(preset)
    found = []
    for member in manifest.presets[preset]:
        name, tasks = member_tasks(member)
        model = manifest.model(name)
        heads = {task: model.heads[task] for task in tasks or list(model.heads)}
        found.append(
            ModelFacts(
                name=name,
                model=model,
                heads=heads,
                size_bytes=sum(_size(manifest, model, file) for file in model.files),
                card=_card(manifest, model),
                evaluation=_evaluation(manifest, model),
                dev_scores=read_dev_scores(manifest, model),
            )
        )
    return found


def drift_word(drift: Drift) -> str:
    """What a population stability index means, with its sign."""
    if drift.psi is None:
        return "no posts"
    if drift.psi < _STEADY:
        return "✓ as on dev"
    return "△ moved" if drift.psi < _MOVED else "▲ another distribution"


def overrides(db: Database, from_s: int, to_s: int) -> list[Override]:
    """How often reviewers decided otherwise than what the model's label amounts to."""
    rows = db.execute(
        "SELECT p.toxicity, p.language, count(*),"
        " count(*) FILTER (WHERE (p.toxicity NOT IN ('', 'none')) <> (d.action <> 'allow'))"
        " FROM decisions AS d JOIN posts AS p ON p.post_id = d.post_id"
        " WHERE d.judged = 1 AND p.retracted = 0 AND d.posted_ms >= ? AND d.posted_ms < ?"
        " GROUP BY p.toxicity, p.language ORDER BY 3 DESC, 1, 2",
        (from_s * 1000, to_s * 1000),
    )
    return [Override(*row) for row in rows]


def _size(manifest: Manifest, model: Model, file: str) -> int:
    path = manifest.file(model, file)
    return path.stat().st_size if path.is_file() else 0


def _card(manifest: Manifest, model: Model) -> str | None:
    path = manifest.file(model, _CARD)
    return path.read_text("utf-8", "replace") if path.is_file() else None


def _evaluation(manifest: Manifest, model: Model) -> Evaluation | None:
    """The figures beside the graph, if they are this model's."""
    path = manifest.file(model, _FIGURES)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except (OSError, msgspec.DecodeError):
        return None
    return found if (found.model, found.version) == (model.id, model.version) else None
