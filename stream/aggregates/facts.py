"""What one record on `labels` or `decisions` says that windows count: pure, from bytes to facts.

Invariant: facts depend on the record alone, so that the same record read twice, or by another
worker, is the same facts. The event time is `posted_at`, the broker's time of the post; one that
lies ahead of the time at which the record was made is a wrong clock, and that time counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from stream.aggregates.merge import ALL, By
from stream.aggregates.terms import domains_of, tags_of, terms_of
from stream.records import Author
from stream.times import timestamp_ms

#: Which topic is counted.
Of = Literal["labels", "decisions"]
#: A dimension and a group of it.
Group = tuple[By, str]
#: The group of what has no source or no language.
NONE: Final = "(none)"
#: The finest width; wider windows are made of these.
STEP_S: Final = 10
#: A producer's clock may be this far ahead of ours.
_CLOCKS_DIFFER_MS: Final = 60_000
_MAX_GROUP_CHARS: Final = 120
_EPOCH_MS: Final = 0
_intern = sys.intern


class Mark:
    """What a post adds to the counts of its groups, in one number: a sentiment and two bits."""

    NO_SENTIMENT: Final = 0
    POSITIVE: Final = 1
    NEUTRAL: Final = 2
    NEGATIVE: Final = 3
    SENTIMENT: Final = 3
    TOXIC: Final = 4
    UNSUPPORTED: Final = 8


_SENTIMENTS: Final = {
    "positive": Mark.POSITIVE,
    "neutral": Mark.NEUTRAL,
    "negative": Mark.NEGATIVE,
}


class Contribution(NamedTuple):
    """What a post counts for, kept so that it can be taken back.

    `version` orders the records of one post: by the place of the post that they answer, its
    time first and then its offset, then by when they were made. `start` is the window of 10 s. A post without groups counts nowhere: it is
    deleted. `action` is what was decided, of a decision.
    """

    version: tuple[int, int, int]
    start: int
    mark: int
    groups: tuple[Group, ...]
    tags: tuple[Group, ...] = ()
    action: str = ""


class Facts(NamedTuple):
    """One record's post, what it counts for, and what goes into the sketches.

    `known_before`: the post must have been seen, because this is an update or a deletion of it.
    """

    post_id: str
    contribution: Contribution
    author: str | None
    tags: list[str]
    domains: list[str]
    terms: list[str]
    known_before: bool


class UnreadableRecordError(ValueError):
    """A record that is not what its topic promises; counted and skipped."""


class _Answer(msgspec.Struct, frozen=True, gc=False):
    label: str
    unsupported: bool = False


class _Origin(msgspec.Struct, frozen=True, gc=False):
    offset: int
    timestamp_ms: int


class _Post(msgspec.Struct, frozen=True, gc=False):
    text: str | None = None
    op: Literal["create", "update", "delete"] = "create"
    source: str | None = None
    author: str | Author | None = None
    tags: list[str] = msgspec.field(default_factory=list)
    links: list[str] = msgspec.field(default_factory=list)


class _Label(msgspec.Struct, frozen=True, gc=False):
    """Of a `Label` what is counted: half the cost of the whole."""

    schema: Literal["tidegate.label.v1"]
    post_id: str
    labelled_at: str
    labels: dict[str, _Answer]
    posted_at: str | None = None
    origin: _Origin | None = None
    post: _Post | None = None
    retracted: bool = False


class _Decision(msgspec.Struct, frozen=True, gc=False):
    """Of a `Decision` what is counted."""

    schema: Literal["tidegate.decision.v1"]
    post_id: str
    action: Literal["allow", "flag", "review", "limit", "hide", "remove"]
    decided_at: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    unsupported: list[str] = msgspec.field(default_factory=list)
    language: str | None = None
    posted_at: str | None = None
    origin: _Origin | None = None
    post: _Post | None = None
    retracted: bool = False


_label = msgspec.json.Decoder(_Label).decode
_decision = msgspec.json.Decoder(_Decision).decode
_NO_POST: Final = _Post()


def label_facts(value: bytes | None, offset: int) -> Facts:
    """The facts of a record on `labels`.

    Args:
        value: its value.
        offset: its place; orders records that do not say where their post was.

    Raises:
        UnreadableRecordError: it is not a label.
    """
    try:
        label = _label(value or b"")
        made_ms = timestamp_ms(label.labelled_at)
        start = _start(label.posted_at, made_ms)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as exc:
        raise UnreadableRecordError(str(exc)) from exc
    # Two labels of one place are one answer, whenever they were made.
    version = _version(label.origin, start, offset, 0)
    if label.retracted:
        return _retraction(label.post_id, version, start)
    mark, groups, language = _judged(label.labels)
    post = label.post or _NO_POST
    return _facts(label.post_id, version, start, post, mark=mark, language=language, groups=groups)


def decision_facts(value: bytes | None, offset: int) -> Facts:
    """The facts of a record on `decisions`; arguments and errors as of `label_facts`."""
    try:
        decision = _decision(value or b"")
        made_ms = timestamp_ms(decision.decided_at)
        start = _start(decision.posted_at, made_ms)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as exc:
        raise UnreadableRecordError(str(exc)) from exc
    version = _version(decision.origin, start, offset, made_ms)
    if decision.retracted:
        return _retraction(decision.post_id, version, start)
    answers = {
        task: _Answer(label, task in decision.unsupported)
        for task, label in decision.labels.items()
    }
    mark, groups, language = _judged(answers)
    post = decision.post or _NO_POST
    return _facts(
        decision.post_id,
        version,
        start,
        post,
        mark=mark,
        language=language or decision.language,
        groups=(("action", decision.action), *groups),
        action=decision.action,
    )


READERS: Final[dict[Of, Callable[[bytes | None, int], Facts]]] = {
    "labels": label_facts,
    "decisions": decision_facts,
}


def _version(origin: _Origin | None, start: int, offset: int, made_ms: int) -> tuple[int, int, int]:
    if origin is None:
        return (start * 1000, offset, made_ms)
    return (origin.timestamp_ms, origin.offset, made_ms)


def _retraction(post_id: str, version: tuple[int, int, int], start: int) -> Facts:
    return Facts(post_id, Contribution(version, start, 0, ()), None, [], [], [], True)


def _judged(answers: dict[str, _Answer]) -> tuple[int, tuple[Group, ...], str | None]:
    """The mark, the groups by label, and the language."""
    mark, language = 0, None
    groups: list[Group] = []
    for task, answer in answers.items():
        if task == "language":
            language = answer.label
            continue
        groups.append(_label_group(task, answer.label))
        if answer.unsupported:
            mark |= Mark.UNSUPPORTED
        if task == "sentiment":
            mark |= _SENTIMENTS.get(answer.label, Mark.NO_SENTIMENT)
        elif task == "toxicity" and answer.label != "none":
            mark |= Mark.TOXIC
    return mark, tuple(groups), language


def _facts(
    post_id: str,
    version: tuple[int, int, int],
    start: int,
    post: _Post,
    *,
    mark: int,
    language: str | None,
    groups: tuple[Group, ...],
    action: str = "",
) -> Facts:
    text = post.text or ""
    tags = tags_of(post.tags, text) if post.tags or "#" in text or "＃" in text else []
    author = post.author.id if isinstance(post.author, Author) else post.author
    contribution = Contribution(
        version,
        start,
        mark,
        _shared((_ALL, _source(post.source), _language(language), *groups)),
        tuple([_tag(tag) for tag in tags]) if tags else (),
        action,
    )
    return Facts(
        post_id,
        contribution,
        # Ids are a network's own: `17` of one is not `17` of another.
        None if author is None else f"{post.source or ''}/{author}",
        tags,
        domains_of(post.links, text) if post.links or "://" in text else [],
        terms_of(text, language),
        post.op == "update",
    )


_ALL: Final[Group] = ("all", ALL)


# Kept: there are few of each, and as many uses as posts. One object for all is also less memory.
@lru_cache(maxsize=65_536)
def _shared(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    return groups


@lru_cache(maxsize=4096)
def _source(source: str | None) -> Group:
    return ("source", group_name(source))


@lru_cache(maxsize=4096)
def _language(language: str | None) -> Group:
    return ("language", group_name(language))


@lru_cache(maxsize=4096)
def _label_group(task: str, label: str) -> Group:
    return ("label", group_name(f"{task}:{label}"))


@lru_cache(maxsize=65_536)
def _tag(tag: str) -> Group:
    return ("tag", group_name(tag))


def group_name(name: str | None) -> str:
    """A group's name: bounded, one line, never empty and never one of our own."""
    text = "".join(char if char.isprintable() else " " for char in (name or "").strip())
    text = text.encode("utf-8", "replace").decode()[:_MAX_GROUP_CHARS]
    return _intern(text.lstrip("(") or NONE)


def _start(posted_at: str | None, made_ms: int) -> int:
    posted_ms = made_ms if posted_at is None else timestamp_ms(posted_at)
    if posted_ms > made_ms + _CLOCKS_DIFFER_MS:
        posted_ms = made_ms
    if posted_ms < _EPOCH_MS:
        raise ValueError(f"`posted_at` is {posted_at}")
    return posted_ms // 1000 // STEP_S * STEP_S
