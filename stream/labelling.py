"""From a post and its scores to the label record: pure, shared by the worker and the command line."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from models.scores import ModelVersion, TaskScore, TextScores
from stream.records import (
    LABEL_SCHEMA,
    MAX_TEXT_CHARS,
    Label,
    ModelRef,
    Origin,
    Post,
    RawPost,
    TaskLabel,
    encode,
    label_id,
    rfc3339,
)


def model_refs(models: Mapping[str, ModelVersion]) -> dict[str, ModelRef]:
    """The `models` field of every label a scorer makes; build it once."""
    return {task: ModelRef(id=m.id, version=m.version) for task, m in models.items()}


def label_of(
    post: Post,
    scores: TextScores,
    models: dict[str, ModelRef],
    *,
    labelled_at_ms: int,
    origin: Origin | None = None,
) -> Label:
    """The label record of one post."""
    return Label(
        schema=LABEL_SCHEMA,
        label_id=label_id(post.id, origin, post.rev),
        post_id=post.id,
        labels={
            task: TaskLabel(
                label=answer.label,
                score=answer.score,
                scores=answer.scores,
                unsupported=answer.unsupported,
            )
            for task, answer in scores.tasks.items()
        },
        models=models,
        labelled_at=rfc3339(labelled_at_ms),
        posted_at=rfc3339(origin.timestamp_ms) if origin else None,
        origin=origin,
        post=_without_excess(post),
        truncated=scores.truncated,
        cleaned=scores.cleaned,
    )


class _LabelOnTheWire(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`Label`, field for field, with the parts that are JSON already as they are."""

    schema: str
    label_id: str
    post_id: str
    labels: Mapping[str, TaskScore]
    models: msgspec.Raw
    labelled_at: str
    posted_at: str
    origin: Origin
    post: msgspec.Raw
    truncated: bool = False
    cleaned: bool = False


class LabelEncoder:
    """Writes the labels of posts that were read as `RawPost`: the worker's hot loop.

    What `write` gives decodes to the very `Label` that `label_of` makes of the same post; it
    costs less than half, because neither the post nor the models are encoded again.
    """

    def __init__(self, models: dict[str, ModelRef]) -> None:
        self._models = msgspec.Raw(encode(models))

    def write(
        self,
        post: RawPost,
        value: bytes | None,
        scores: TextScores | None,
        labelled_at: str,
        origin: Origin,
    ) -> bytes:
        """The label's JSON; `value` is what `post` was read from, and was scored."""
        assert value is not None
        assert scores is not None
        post_id = post.id
        return encode(
            _LabelOnTheWire(
                LABEL_SCHEMA,
                # `label_id`, without the call: it is made for every post.
                f"{post_id}@{origin.topic}/{origin.partition}/{origin.offset}"
                if post.rev is None
                else label_id(post_id, origin, post.rev),
                post_id,
                scores.tasks,
                self._models,
                labelled_at,
                rfc3339(origin.timestamp_ms),
                origin,
                msgspec.Raw(value),
                scores.truncated,
                scores.cleaned,
            )
        )


def retraction_of(
    post: Post, models: dict[str, ModelRef], *, labelled_at_ms: int, origin: Origin | None = None
) -> Label:
    """The record that takes a deleted post's labels back; it repeats no text."""
    return Label(
        schema=LABEL_SCHEMA,
        label_id=label_id(post.id, origin, post.rev),
        post_id=post.id,
        labels={},
        models=models,
        labelled_at=rfc3339(labelled_at_ms),
        posted_at=rfc3339(origin.timestamp_ms) if origin else None,
        origin=origin,
        post=Post(id=post.id, op="delete", source=post.source, author=post.author),
        retracted=True,
    )


def _without_excess(post: Post) -> Post:
    if post.text is None or len(post.text) <= MAX_TEXT_CHARS:
        return post
    fields = {name: getattr(post, name) for name in Post.__struct_fields__}
    return Post(**{**fields, "text": post.text[:MAX_TEXT_CHARS]})
