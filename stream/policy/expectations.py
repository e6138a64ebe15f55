"""Tests that stand beside the rules: a post in, an action out.

Invariant: a test that gives `labels` depends on the file alone; one that gives only a text is
scored by the model, and its result says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import msgspec

from stream.outcomes import Action, Severity
from stream.policy.diagnostics import suggestion
from stream.policy.document import Value
from stream.policy.durations import seconds_of, shown
from stream.policy.engine import Policy
from stream.policy.history import KINDS, KeyKind
from stream.policy.reasons import REASONS
from stream.policy.subject import Subject
from stream.policy.verdict import Verdict
from stream.policy.vocabulary import Task, Vocabulary
from stream.records import Post, TaskLabel

#: Key of a test to its meaning; docs/policy.md is tested against these.
GIVEN_KEYS: Final = {
    "name": "what the test shows",
    "text": "the post's text",
    "labels": "task to label, or to labels with scores; without it the model scores the text",
    "unsupported": "tasks that were not measured on the post's language",
    "at": "when it was posted",
    "author": "the author's id, or its fields",
    "history": 'counts that the rules ask for, as `count(author, "5m"): 30`',
    **dict.fromkeys(
        ("lang", "langs", "links", "mentions", "meta", "op", "reply_to", "source", "tags",
         "thread_id", "url"),
        "as in a post",
    ),
}  # fmt: skip
EXPECTED_KEYS: Final = {
    "action": "the outcome",
    "severity": "its severity",
    "reason": "its reason",
    "rules": "exactly these live rules match",
    "shadow": "exactly these shadow rules match",
    "safelist": "`authors` or `languages`: the safelist that exempts the post",
}
_POST_KEYS: Final = GIVEN_KEYS.keys() & set(Post.__struct_fields__)
#: The post of a test is of this moment, unless it says `at`: 2026-01-01T12:00:00Z.
_NOON_MS: Final = 1_767_268_800_000
_COUNT = re.compile(r"""(count|distinct_authors|actions)\(\s*(\w+)\s*,\s*["']?(\w+)["']?\s*\)""")


@dataclass(frozen=True, slots=True)
class GivenHistory:
    """A history that answers what a test says, and else that the post is the first."""

    counts: Mapping[tuple[str, str, int], int]

    def count(self, kind: KeyKind, _key: str, window_s: int) -> int:
        """As the test says, or 1."""
        return self.counts.get(("count", kind, window_s), 1)

    def distinct_authors(self, kind: KeyKind, _key: str, window_s: int) -> int:
        """As the test says, or 1."""
        return self.counts.get(("distinct_authors", kind, window_s), 1)

    def actions(self, _author: str, window_s: int) -> int:
        """As the test says, or 0."""
        return self.counts.get(("actions", "author", window_s), 0)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One test. `labels` is None where the model is to score the text."""

    name: str
    where: str
    post: Post
    labels: Mapping[str, TaskLabel] | None
    at_ms: int
    history: GivenHistory
    action: Action | None = None
    severity: str | None = None
    reason: str | None = None
    rules: frozenset[str] | None = None
    shadow: frozenset[str] | None = None
    safelist: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test ended. `scored_by` is `given`, or the models' ids and versions."""

    name: str
    where: str
    passed: bool
    scored_by: str
    problems: list[str] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    labels: dict[str, TaskLabel] = field(default_factory=dict)


def check_expectation(
    policy: Policy, test: Expectation, labels: Mapping[str, TaskLabel], scored_by: str = "given"
) -> Outcome:
    """The test's outcome for these labels."""
    subject = Subject(
        label_id=f"test:{test.name}",
        post_id=test.post.id,
        labels=labels,
        post=test.post,
        at_ms=test.at_ms,
    )
    verdict = policy.evaluate(subject, test.history)
    problems = list(_problems(test, verdict))
    return Outcome(
        name=test.name,
        where=test.where,
        passed=not problems,
        scored_by=scored_by,
        problems=problems,
        matched=[match.id for match in verdict.matches],
        labels=dict(labels) if problems else {},
    )


def _problems(test: Expectation, verdict: Verdict) -> list[str]:
    problems = []
    for name in ("action", "severity", "reason", "safelist"):
        wanted, got = getattr(test, name), getattr(verdict, name)
        if wanted is not None and wanted != got:
            problems.append(f"{name} is `{got}`, not `{wanted}`")
    for name, matches in (("rules", verdict.live), ("shadow", verdict.shadow)):
        wanted = getattr(test, name)
        got = {match.id for match in matches}
        if wanted is None or wanted == got:
            continue
        kind = "live" if name == "rules" else "shadow"
        problems += [f"{kind} rule `{rule}` did not match" for rule in sorted(wanted - got)]
        problems += [f"{kind} rule `{rule}` matched too" for rule in sorted(got - wanted)]
    problems += [f"rule `{rule.id}` failed: {rule.error}" for rule in verdict.failed]
    return problems


def read_expectation(
    value: Value, rule_ids: Sequence[str], vocabulary: Vocabulary
) -> Expectation | None:
    """A test as it stands in the file; None, and its mistakes reported, where it has one."""
    before = len(value.found.found)
    fields = value.fields({**GIVEN_KEYS, **EXPECTED_KEYS}, "a test")
    if not fields:
        return None
    if not fields.keys() & EXPECTED_KEYS:
        value.wrong("the test expects nothing", hint=f"one of: {', '.join(EXPECTED_KEYS)}")
    if "text" not in fields:
        value.wrong("the test has no `text`")
    text = fields["text"].text() if "text" in fields else ""
    name = fields["name"].text() if "name" in fields else None
    at = fields["at"].moment("a time") if "at" in fields else None
    labels = _labels(fields, vocabulary)
    test = Expectation(
        name=name or (text or "")[:60],
        where=value.where,
        post=_post(fields, value),
        labels=labels,
        at_ms=int(at.timestamp() * 1000) if at else _NOON_MS,
        history=_history(fields.get("history")),
        action=_expected(fields, "action", list(Action)),
        severity=_expected(fields, "severity", list(get_args(Severity))),
        reason=_expected(fields, "reason", list(REASONS)),
        rules=_expected_rules(fields.get("rules"), rule_ids),
        shadow=_expected_rules(fields.get("shadow"), rule_ids),
        safelist=_expected(fields, "safelist", ["authors", "languages"]),
    )
    return test if len(value.found.found) == before else None


def _post(fields: Mapping[str, Value], test: Value) -> Post:
    given = {name: fields[name].plain() for name in fields if name in _POST_KEYS}
    given["text"] = fields["text"].text() or "" if "text" in fields else ""
    try:
        return msgspec.convert({"id": "test", "author": "somebody", **given}, Post)
    except msgspec.ValidationError as exc:
        found = re.search(r"`\$\.(\w+)", str(exc))
        at = fields.get(found[1], test) if found else test
        at.wrong(f"not a post: {str(exc)[:1].lower()}{str(exc)[1:]}")
        return Post(id="test", text="")


def _expected(fields: Mapping[str, Value], name: str, known: Sequence[str]) -> Any:
    if name not in fields:
        return None
    text = fields[name].choice(known, f"{'an' if name[0] in 'aeiou' else 'a'} {name}")
    return Action(text) if text is not None and name == "action" else text


def _expected_rules(value: Value | None, known: Sequence[str]) -> frozenset[str] | None:
    if value is None:
        return None
    ids = value.texts("a list of rules")
    for rule_id, at in ids:
        if rule_id not in known:
            at.wrong(f"there is no rule `{rule_id}`", hint=suggestion(rule_id, known))
    return frozenset(rule_id for rule_id, _ in ids)


def _history(value: Value | None) -> GivenHistory:
    counts: dict[tuple[str, str, int], int] = {}
    if value is None:
        return GivenHistory(counts)
    keys = dict(value.keys())
    for written, count in value.fields(None, "counts").items():
        found = _COUNT.fullmatch(written.strip())
        if found is None or found[2] not in KINDS:
            keys[written].wrong(f"`{written}` is no count", hint='as in `count(author, "5m"): 30`')
            continue
        try:
            seconds = seconds_of(found[3])
        except ValueError as exc:
            keys[written].wrong(str(exc))
            continue
        number = count.number("a count", least=0)
        counts[found[1], found[2], seconds] = number or 0
    return GivenHistory(counts)


def _labels(fields: Mapping[str, Value], vocabulary: Vocabulary) -> dict[str, TaskLabel] | None:
    """The labels a test gives; what it leaves out is neutral, harmless, and English."""
    if "labels" not in fields:
        return None
    given = fields["labels"].fields({name: name for name in vocabulary.tasks}, "`labels`")
    marked = fields["unsupported"].texts("a list of tasks") if "unsupported" in fields else []
    unsupported = {text for text, _ in marked}
    return {
        name: _task_label(task, given.get(name), unsupported=name in unsupported)
        for name, task in vocabulary.tasks.items()
    }


def _task_label(task: Task, value: Value | None, *, unsupported: bool) -> TaskLabel:
    scores: dict[str, float] = {}
    node = None if value is None else value.plain()
    if value is None:
        default = {"sentiment": "neutral", "language": "en"}.get(task.name)
        scores = {default: 1.0} if default in task.labels else {}
    elif isinstance(node, dict):
        for label, score in value.fields(
            {label: label for label in task.labels}, f"`{task.name}`"
        ).items():
            number = score.fraction("a score")
            scores[label] = number if number is not None else 0.0
    else:
        text = value.choice(task.labels, f"a label of `{task.name}`")
        scores = {text: 1.0} if text is not None else {}
    if not task.top:
        scores = {**dict.fromkeys(task.labels, 0.0), **scores}
    if task.multi_label:
        over = [
            label for label, score in scores.items() if score >= task.thresholds.get(label, 0.5)
        ]
        label = max(over, key=scores.__getitem__, default="none")
    else:
        label = max(scores, key=scores.__getitem__, default="")
    return TaskLabel(
        label=label,
        score=max(scores.values(), default=0.0),
        scores=scores,
        unsupported=unsupported,
    )


def shown_history(history: GivenHistory) -> list[str]:
    """The counts of a test as they are written."""
    return [
        f'{measure}({kind}, "{shown(seconds)}"): {count}'
        for (measure, kind, seconds), count in sorted(history.counts.items())
    ]
