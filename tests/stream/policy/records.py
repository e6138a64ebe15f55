"""Label records and policies for the tests of the policy engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stream.policy import Policy, Subject, load_policy
from stream.records import LABEL_SCHEMA, Author, Label, ModelRef, Origin, Post, TaskLabel

HEADS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_attack")


def label(
    text: str | None = "hello",
    *,
    toxicity: dict[str, float] | None = None,
    sentiment: str = "neutral",
    language: str = "en",
    unsupported: bool = False,
    author: str | Author | None = "ann",
    at_ms: int = 1_767_268_800_000,
    **post: Any,
) -> Label:
    """A label record; `text` None: without a post."""
    scores = {**dict.fromkeys(HEADS, 0.0), **(toxicity or {})}
    moods = {
        mood: 0.9 if mood == sentiment else 0.05 for mood in ("negative", "neutral", "positive")
    }
    top = max(scores, key=scores.__getitem__)
    return Label(
        schema=LABEL_SCHEMA,
        label_id="p1@labels/0/7",
        post_id="p1",
        labels={
            "toxicity": TaskLabel(
                label=top if scores[top] >= 0.4 else "none",
                score=scores[top],
                scores=scores,
                unsupported=unsupported,
            ),
            "sentiment": TaskLabel(label=sentiment, score=0.9, scores=moods),
            "language": TaskLabel(label=language, score=0.99, scores={language: 0.99}),
        },
        models={"toxicity": ModelRef(id="tidegate/compact", version="1")},
        labelled_at="2026-01-01T12:00:01.000Z",
        posted_at="2026-01-01T12:00:00.000Z",
        origin=Origin(topic="posts", partition=0, offset=7, timestamp_ms=at_ms),
        post=None if text is None else Post(id="p1", text=text, author=author, **post),
    )


def subject(text: str | None = "hello", **fields: Any) -> Subject:
    """The subject of such a label."""
    return Subject.of_label(label(text, **fields))


def policy(folder: Path, text: str) -> Policy:
    """The policy in this text."""
    path = folder / "policy.yaml"
    path.write_text(text, "utf-8")
    return load_policy(path)


def rule(when: str, *, name: str = "a", **fields: Any) -> str:
    """A rule as a line of YAML in flow style."""
    import json

    written = {"id": name, "when": when, "action": "flag", "reason": "other", **fields}
    return f"  - {json.dumps(written, ensure_ascii=False)}\n"


def rules(*written: str) -> str:
    """A file of such rules."""
    return "rules:\n" + "".join(written)
