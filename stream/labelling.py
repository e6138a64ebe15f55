"""From a post and its scores to the label record: pure, shared by the worker and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from models.scores import ModelVersion, TextScores
from stream.post_decoding import RawPost
from stream.records import (
    LABEL_SCHEMA,
    MAX_TEXT_CHARS,
    Label,
    ModelRef,
    Origin,
    Post,
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


#: Writes a label: post, its bytes, its scores, its offset, its timestamp in milliseconds.
WriteLabel = Callable[[RawPost, bytes | None, TextScores | None, int, int], bytes]


class LabelEncoder:
    """Writes the labels of posts that were read as `RawPost`: the worker's hot loop.

    What it writes decodes to the very `Label` that `label_of` makes of the same post. It costs a
    third: of a batch's labels only the ids, the scores and two numbers differ, and the post's own
    bytes stand in its label as they were read.
    """

    def __init__(self, models: dict[str, ModelRef]) -> None:
        self._models = encode(models)

    def writer(self, topic: str, partition: int, labelled_at_ms: int) -> WriteLabel:
        """What writes the labels of one partition's posts, made at one time."""
        place = encode(f"@{topic}/{partition}/")[1:-1]
        start = b'{"schema":%b,"label_id":' % encode(LABEL_SCHEMA)
        made = b',"models":%b,"labelled_at":%b,"posted_at":' % (
            self._models,
            encode(rfc3339(labelled_at_ms)),
        )
        origin = b',"origin":{"topic":%b,"partition":%d,"offset":' % (encode(topic), partition)
        last_ms, posted_at, timestamp = -1, b"", b""

        def write(
            post: RawPost,
            value: bytes | None,
            scores: TextScores | None,
            offset: int,
            timestamp_ms: int,
        ) -> bytes:
            nonlocal last_ms, posted_at, timestamp
            assert value is not None
            assert scores is not None
            if timestamp_ms != last_ms:  # posts of a flood share their millisecond
                last_ms = timestamp_ms
                posted_at, timestamp = encode(rfc3339(timestamp_ms)), b"%d" % timestamp_ms
            post_id, number = encode(post.id), b"%d" % offset
            label_id = post_id if post.rev is None else encode(f"{post.id}@{post.rev}")
            return b"".join(
                (
                    start,
                    label_id[:-1],  # its closing quotation mark comes after the place
                    place,
                    number,
                    b'","post_id":',
                    post_id,
                    b',"labels":',
                    encode(scores.tasks),
                    made,
                    posted_at,
                    origin,
                    number,
                    b',"timestamp_ms":',
                    timestamp,
                    b'},"post":',
                    value,
                    _FLAGS[scores.truncated, scores.cleaned],
                )
            )

        return write


_FLAGS: Final = {
    (False, False): b"}",
    (True, False): b',"truncated":true}',
    (False, True): b',"cleaned":true}',
    (True, True): b',"truncated":true,"cleaned":true}',
}


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
