"""Every name a condition may use: its type, its meaning, how it is read off a post.

docs/policy.md is tested against this. Invariant: a name that is not `optional` has a value for
every post that was labelled; one that is makes the rule not match where the source is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from stream.policy.expressions import (
    ANYTHING,
    BOOL,
    DOUBLE,
    INT,
    KEY,
    SCORES,
    STRING,
    STRINGS,
    TIMESTAMP,
    Type,
)
from stream.policy.history import KINDS
from stream.policy.reading import Reading
from stream.times import timestamp_ms

_DAY_S = 86_400


class Missing(Exception):  # noqa: N818 - no error: a fact is not there
    """The post does not bring this fact."""


@dataclass(frozen=True, slots=True)
class Name:
    """One variable of conditions; `score` marks what a match's score is taken from."""

    name: str
    type: Type
    meaning: str
    read: Callable[[Reading], Any]
    optional: bool = False
    score: bool = False


def _there(value: Any) -> Any:
    if value is None:
        raise Missing
    return value


def _age_days(reading: Reading) -> float:
    subject = reading.subject
    created_at = _there(subject.author.created_at if subject.author else None)
    try:
        created_ms = timestamp_ms(created_at)
    except ValueError:
        raise Missing from None
    return max(0.0, (subject.at_ms - created_ms) / 1000 / _DAY_S)


def _capitals(reading: Reading) -> float:
    text = reading.subject.text
    capitals = sum(map(str.isupper, text))
    return capitals / sum(map(str.isalpha, text)) if capitals else 0.0


def _post_field(name: str, reading: Reading) -> Any:
    subject = reading.subject
    value = getattr(subject.post, name) if subject.post else None
    return "" if value is None else value


def _author_field(name: str, reading: Reading) -> Any:
    subject = reading.subject
    return _there(getattr(subject.author, name) if subject.author else None)


#: What is known of every post.
POST_NAMES: Final[tuple[Name, ...]] = (
    Name("post.id", STRING, "the post's id", lambda r: r.subject.post_id),
    Name("post.text", STRING, "the text, as it was written", lambda r: r.subject.text),
    Name("post.chars", INT, "characters of the text", lambda r: len(r.subject.text)),
    Name("post.capitals", DOUBLE, "share of the letters that are capitals, 0 to 1", _capitals),
    Name("post.source", STRING, "where the post came from, or empty", partial(_post_field, "source")),
    Name("post.url", STRING, "where it can be read, or empty", partial(_post_field, "url")),
    Name("post.lang", STRING, "the language it claims, or empty; `language.label` is the model's", partial(_post_field, "lang")),
    Name("post.tags", STRINGS, "its tags, lower case, without `#`", lambda r: list(r.subject.tags)),
    Name("post.mentions", STRINGS, "who is mentioned, without `@`, lower case", lambda r: list(r.subject.keys("mention"))),
    Name("post.links", STRINGS, "its links, also those in the text; none to safelisted domains", lambda r: list(r.links())),
    Name("post.domains", STRINGS, "the hosts of its links, without `www.`", lambda r: list(r.hosts())),
    Name("post.is_reply", BOOL, "it answers another post", lambda r: bool(r.subject.post and r.subject.post.reply_to)),
    Name("post.is_edit", BOOL, "it replaces an earlier version", lambda r: r.subject.is_edit),
    Name("post.at", TIMESTAMP, "the broker's time of the post", lambda r: datetime.fromtimestamp(r.subject.at_ms / 1000, UTC)),
    Name("post.meta", ANYTHING, "fields of the source that Tidegate does not know", lambda r: r.subject.post.meta if r.subject.post else {}),
    Name("author.id", STRING, "the author", lambda r: _there(r.subject.author_id), optional=True),
    Name("author.handle", STRING, "the author's handle", partial(_author_field, "handle"), optional=True),
    Name("author.followers", INT, "how many follow the author", partial(_author_field, "followers"), optional=True),
    Name("author.bot", BOOL, "the account says that it is a bot", partial(_author_field, "bot"), optional=True),
    Name("author.age_days", DOUBLE, "age of the account at the time of the post", _age_days, optional=True),
)  # fmt: skip

#: What counts over windows can be about; each stands for this post's own key or keys.
KEY_NAMES: Final[dict[str, str]] = {
    "author": "posts of this post's author",
    "tag": "posts with a tag of this post (the highest count, if it has several)",
    "domain": "posts with a link to a domain this post links to (the highest count)",
    "mention": "posts that mention someone this post mentions (the highest count)",
    "same_text": "posts with the same text, but for case, spaces, links and mentions",
    "source": "posts from this post's source",
    "language": "posts in this post's language",
    "thread": "posts in this post's thread, or in answer to the same post",
}
assert tuple(KEY_NAMES) == KINDS


def _answer(task: str, field: str, reading: Reading) -> Any:
    answer = reading.subject.labels.get(task)
    if answer is None:
        raise Missing
    return getattr(answer, field)


def _score(task: str, label: str, reading: Reading) -> float:
    answer = reading.subject.labels.get(task)
    if answer is None or (score := answer.scores.get(label)) is None:
        raise Missing
    return score


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the models and its labels; `top` if labels carry only the most probable."""

    name: str
    labels: tuple[str, ...]
    top: int = 0
    multi_label: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)


def task_names(task: Task) -> list[Name]:
    """The names a task gives to conditions."""
    t = task.name
    names = [
        Name(f"{t}.label", STRING, f"what `{t}` says", partial(_answer, t, "label")),
        Name(
            f"{t}.score",
            DOUBLE,
            "the probability of that label",
            partial(_answer, t, "score"),
            score=t != "language",
        ),
        Name(
            f"{t}.unsupported",
            BOOL,
            f"`{t}` was not measured on the post's language",
            partial(_answer, t, "unsupported"),
        ),
        Name(f"{t}.scores", SCORES, "label to score", partial(_answer, t, "scores")),
    ]
    taken = {name.name for name in names}
    own = [label for label in task.labels if label.isidentifier() and f"{t}.{label}" not in taken]
    return names + [
        Name(f"{t}.{label}", DOUBLE, f"score of `{label}`", partial(_score, t, label), score=True)
        for label in own
        if not task.top
    ]


class Vocabulary:
    """All names, for the tasks that the models answer."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks: Mapping[str, Task] = {task.name: task for task in tasks}
        every = [*POST_NAMES, *(name for task in tasks for name in task_names(task))]
        self.names: Mapping[str, Name] = {name.name: name for name in every}
        self.types: Mapping[str, Type] = {
            **dict.fromkeys(KEY_NAMES, KEY),
            **{name.name: name.type for name in every},
        }


def bundled_tasks() -> tuple[Task, ...]:
    """The tasks of the bundled models, in the manifest's words."""
    from models.manifest import load_manifest

    found: dict[str, Task] = {}
    for model in load_manifest(None).models.values():
        for name, head in model.heads.items():
            known = found.get(name)
            labels = dict.fromkeys((*(known.labels if known else ()), *head.labels))
            found[name] = Task(
                name,
                tuple(labels),
                known.top if known else head.top,
                head.activation == "sigmoid",
                {**head.thresholds, **(known.thresholds if known else {})},
            )
    return tuple(found.values())
