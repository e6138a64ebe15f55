"""What cannot be right in a manifest though every field has its type: pure, a sentence a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.manifest import Head, Model


def member_tasks(member: str) -> tuple[str, list[str]]:
    """A preset's member as (model, tasks): `compact`, or `compact:language,toxicity` for some."""
    model, _, tasks = member.partition(":")
    return model, [task.strip() for task in tasks.split(",") if task.strip()]


def contradictions(presets: Mapping[str, list[str]], models: Mapping[str, Model]) -> Iterator[str]:
    """What does not go together in a manifest, a sentence each."""
    for name, model in models.items():
        yield from (f"model `{name}`: {problem}" for problem in _model_contradictions(model))
    for preset, names in presets.items():
        owner: dict[str, str] = {}
        for name, only in map(member_tasks, names):
            if name not in models:
                yield f"preset `{preset}` names the model `{name}`, which is not there"
                return
            for task in only:
                if task not in models[name].heads:
                    yield f"preset `{preset}`: `{name}` has no task `{task}`"
            for task in only or models[name].heads:
                if task in owner:
                    yield f"preset `{preset}`: both `{owner[task]}` and `{name}` answer `{task}`"
                owner[task] = name
        if not owner:
            yield f"preset `{preset}` answers no task"


def _model_contradictions(model: Model) -> Iterator[str]:
    for role, file in (("graph", model.graph), ("tokenizer", model.tokenizer)):
        if file not in model.files and (model.exported or model.source is None):
            yield f"the {role} `{file}` is not among its `files`"
    for file in model.files:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            yield f"file `{file}` lies outside the model's folder"
    if not model.heads:
        yield "it has no heads"
    end = 0
    for task, head in sorted(model.heads.items(), key=lambda item: item[1].slice):
        start, stop = head.slice
        if start < end:
            yield f"head `{task}`: its slice [{start}, {stop}] overlaps another head's"
        if stop - start != len(head.labels):
            yield (
                f"head `{task}`: {len(head.labels)} labels do not match the slice "
                f"[{start}, {stop}] of {stop - start} logits"
            )
        yield from (f"head `{task}`: {problem}" for problem in _head_contradictions(head))
        end = stop


def _head_contradictions(head: Head) -> Iterator[str]:
    for label, count in Counter(head.labels).items():
        if count > 1:
            yield f"label `{label}` stands there twice"
    if head.activation == "sigmoid" and "none" in head.labels:
        yield "`none` cannot be a label: it says that no label reached its threshold"
    for label in head.thresholds:
        if label not in head.labels:
            yield f"threshold of `{label}`, which is not one of its labels"
    if head.activation == "softmax" and (head.thresholds or head.by_language):
        yield "thresholds belong to `sigmoid`; `softmax` answers the most probable label"
    yield from _calibration_contradictions(head)
    if head.activation == "sigmoid":
        for label in head.labels:
            if label not in head.thresholds:
                yield f"label `{label}` has no threshold"


def _calibration_contradictions(head: Head) -> Iterator[str]:
    if head.activation == "softmax" and head.curves:
        yield "curves belong to `sigmoid`; `softmax` has a `temperature`"
    if head.activation == "sigmoid" and head.temperature != 1.0:
        yield "a `temperature` belongs to `softmax`; `sigmoid` has `curves`"
    named = {("curve", label) for label in head.curves}
    named |= {("measurement", label) for label in head.measured}
    named |= {(f"`{lang}` threshold", x) for lang, own in head.by_language.items() for x in own}
    for what, label in sorted(named):
        if label not in head.labels:
            yield f"{what} of `{label}`, which is not one of its labels"
    for label, curve in head.curves.items():
        yield from (f"curve of `{label}`: {problem}" for problem in curve.problems())
