"""What may stand in a file of rules, and how it is read; conditions are compiled by `load`.

Invariant: reading never stops at a mistake. A rule with one is left out of the result, and the
load fails because the mistake was reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from stream.outcomes import Action, Severity
from stream.policy.diagnostics import SourceFile
from stream.policy.document import Value
from stream.policy.engine import Mode, Rule
from stream.policy.reasons import REASONS
from stream.policy.subject import host_of
from stream.policy.vocabulary import Task
from stream.policy.words import Term, TermError, WordList

#: Key to its meaning; docs/policy.md is tested against these.
FILE_KEYS: Final = {
    "name": "a name for people, part of the policy's version",
    "quota": "most strong actions (limit, hide, remove) a day of all rules",
    "safelist": "authors, languages and domains that rules leave alone",
    "lists": "word lists and domain lists, by name",
    "tasks": "labels of models that are not in the bundled manifest, by task",
    "rules": "the rules",
    "tests": "posts, and what the rules must say of them",
}
RULE_KEYS: Final = {
    "id": "lower-case letters, digits and hyphens; stands on every decision",
    "version": "stands on every decision beside the id; default 1",
    "description": "one sentence for moderators",
    "when": "the condition, in CEL",
    "action": "allow, flag, review, limit, hide or remove",
    "severity": "info, low, medium, high or critical",
    "reason": "a code of the taxonomy",
    "mode": "live (default), shadow or off",
    "languages": "only posts in these languages",
    "expires": "off from this date on",
    "priority": "among rules of the same action the highest gives severity and reason; default 0",
    "quota": "most strong actions a day of this rule; then it goes to shadow",
}
LIST_KEYS: Final = {
    "words": "terms; `*` and `?` are wildcards",
    "allow": "terms that are fine although a word in them is not",
    "fold": "find disguised terms too; default true",
    "file": "more terms or domains, one a line, `#` begins a comment",
    "domains": "domains; those below them are meant too",
}
SAFELIST_KEYS: Final = {
    "authors": "ids of authors whose posts are always allowed",
    "languages": "languages whose posts are always allowed",
    "domains": "domains; links to them count as no links",
}
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A rule and the place of its condition."""

    rule: Rule
    when: Value


@dataclass(slots=True)
class RuleFiles:
    """All that the files say."""

    name: str | None = None
    quota: int | None = None
    rules: list[WrittenRule] = field(default_factory=list)
    words: dict[str, WordList] = field(default_factory=dict)
    domains: dict[str, frozenset[str]] = field(default_factory=dict)
    safe_authors: frozenset[str] = frozenset()
    safe_languages: frozenset[str] = frozenset()
    safe_domains: frozenset[str] = frozenset()
    tasks: list[Task] = field(default_factory=list)
    tests: list[Value] = field(default_factory=list)
    #: Where each id and list was first, and which other files were read.
    places: dict[tuple[Literal["rule", "list"], str], str] = field(default_factory=dict)
    included: list[Path] = field(default_factory=list)


def read_rule_file(document: Value, folder: Path, into: RuleFiles) -> None:
    """Add what one document says; `folder` is what its `file:` entries are relative to."""
    fields = document.fields(FILE_KEYS, "a policy")
    if (value := fields.get("name")) is not None:
        into.name = value.text(what="a name") or into.name
    if (value := fields.get("quota")) is not None:
        into.quota = value.number("a number of actions a day", least=0)
    if (value := fields.get("safelist")) is not None:
        _read_safelist(value, into)
    for name, written in _by_name(fields.get("lists"), "lists, by name"):
        _read_list(name, written, folder, into)
    for name, written in _by_name(fields.get("tasks"), "labels, by task"):
        if not name.isidentifier():
            written.wrong(f"`{name}` cannot be a name in conditions")
        into.tasks.append(Task(name, tuple(label for label, _ in written.texts())))
    for written in fields["rules"].items("a list of rules") if "rules" in fields else ():
        _read_rule(written, into)
    if (value := fields.get("tests")) is not None:
        into.tests.extend(value.items("a list of tests"))


def _by_name(value: Value | None, what: str) -> Iterable[tuple[str, Value]]:
    return () if value is None else value.fields(None, what).items()


def _read_rule(written: Value, into: RuleFiles) -> None:
    before = len(written.found.found)
    fields = written.fields(RULE_KEYS, "a rule")
    if not fields:
        return
    for name in ("id", "when", "action", "reason"):
        if name not in fields:
            written.wrong(f"the rule has no `{name}`", hint=f"{name}: {RULE_KEYS[name]}")
    rule_id = fields["id"].text(what="an id") if "id" in fields else None
    if rule_id is not None:
        _check_id(rule_id, fields["id"], into)
    action = fields["action"].choice(list(Action), "an action") if "action" in fields else None
    reason = fields["reason"].choice(list(REASONS), "a reason") if "reason" in fields else None
    when = fields["when"].text(what="a condition") if "when" in fields else None
    severity = _choice(fields, "severity", get_args(Severity), "a severity", "medium")
    mode = _choice(fields, "mode", get_args(Mode), "a mode", "live")
    version, description = _text(fields, "version", "1"), _text(fields, "description", "")
    expires = fields["expires"].moment("a date") if "expires" in fields else None
    priority = fields["priority"].number("a priority") if "priority" in fields else 0
    quota = (
        fields["quota"].number("a number of actions a day", least=0) if "quota" in fields else None
    )
    languages = _languages(fields["languages"]) if "languages" in fields else ()
    if len(written.found.found) > before:
        # What depends on a wrong field may still be looked at: its condition.
        rule_id, action, reason = rule_id or "?", action or "allow", reason or "other"
    if when is None or rule_id is None:
        return
    rule = Rule(
        id=rule_id,
        version=version,
        when=when,
        action=Action(action or "allow"),
        severity=severity,  # type: ignore[arg-type]  # checked by `_choice`
        reason=reason or "other",
        mode=mode,  # type: ignore[arg-type]  # checked by `_choice`
        description=" ".join(description.split()),
        languages=languages,
        expires_at=expires,
        priority=priority or 0,
        quota=quota,
        where=written.where,
    )
    into.rules.append(WrittenRule(rule, fields["when"]))


def _check_id(rule_id: str, at: Value, into: RuleFiles) -> None:
    if not _ID.fullmatch(rule_id):
        at.wrong(f"`{rule_id}` is no id", hint="lower-case letters, digits and single hyphens")
    first = into.places.setdefault(("rule", rule_id), at.where)
    if first != at.where:
        at.wrong(f"there are two rules `{rule_id}`", hint=f"the first is in {first}")


def _choice(
    fields: dict[str, Value], name: str, known: tuple[str, ...], what: str, default: str
) -> str:
    return (fields[name].choice(known, what) if name in fields else None) or default


def _text(fields: dict[str, Value], name: str, default: str) -> str:
    return (fields[name].text() if name in fields else None) or default


def _languages(value: Value) -> tuple[str, ...]:
    languages = []
    for text, at in value.texts("a list of languages"):
        if not _LANGUAGE.fullmatch(text):
            hint = "two or three letters, as in `en`"
            at.wrong(f"`{text}` is not a language code", hint=hint)
        languages.append(text)
    return tuple(languages)


def _read_safelist(value: Value, into: RuleFiles) -> None:
    fields = value.fields(SAFELIST_KEYS, "a safelist")
    if "authors" in fields:
        into.safe_authors |= {text for text, _ in fields["authors"].texts("a list of authors")}
    if "languages" in fields:
        into.safe_languages |= set(_languages(fields["languages"]))
    if "domains" in fields:
        into.safe_domains |= _domains(fields["domains"])


def _read_list(name: str, value: Value, folder: Path, into: RuleFiles) -> None:
    before = len(value.found.found)
    fields = value.fields(LIST_KEYS, "a list")
    if not fields:
        if len(value.found.found) == before:
            value.wrong(f"`{name}` has neither `words` nor `domains`")
        return
    if not _NAME.fullmatch(name):
        value.wrong(f"`{name}` is no name for a list", hint="letters, digits, `_` and `-`")
    first = into.places.setdefault(("list", name), value.where)
    if first != value.where:
        value.wrong(f"there are two lists `{name}`", hint=f"the first is in {first}")
    if "domains" in fields and "words" in fields:
        value.wrong(f"`{name}` has words and domains", hint="make it two lists")
        return
    more = _file_lines(fields["file"], folder, into) if "file" in fields else []
    if "domains" in fields:
        for other in ("allow", "fold"):
            if other in fields:
                fields[other].wrong(f"a list of domains has no `{other}`")
        domains = _domains(fields["domains"])
        into.domains[name] = domains | {host for text, _ in more if (host := _domain(text))}
        return
    if "words" not in fields and "file" not in fields:
        value.wrong(f"`{name}` has neither `words` nor `domains`")
    fold = fields["fold"].boolean() if "fold" in fields else True
    words = [*(fields["words"].texts("a list of words") if "words" in fields else ()), *more]
    allow = fields["allow"].texts("a list of words") if "allow" in fields else []
    into.words[name] = WordList(
        name, _terms(words, fold=bool(fold)), _terms(allow, fold=bool(fold)), fold=bool(fold)
    )


def _terms(written: list[tuple[str, Value]], *, fold: bool) -> tuple[str, ...]:
    terms = []
    for text, at in written:
        try:
            Term(text, folded=fold)
        except TermError as exc:
            at.wrong(f"`{text}`: {exc}")
        else:
            terms.append(text)
    return tuple(dict.fromkeys(terms))


def _domains(value: Value) -> frozenset[str]:
    found = set()
    for text, at in value.texts("a list of domains"):
        domain = _domain(text)
        if domain is None:
            at.wrong(
                f"`{text}` is not a domain", hint="as in `example.org`, without `https://` and path"
            )
        else:
            found.add(domain)
    return frozenset(found)


def _domain(text: str) -> str | None:
    host = host_of(text.removeprefix("*.")) if "/" not in text and ":" not in text else None
    return host if host is not None and _DOMAIN.fullmatch(host) else None


def _file_lines(value: Value, folder: Path, into: RuleFiles) -> list[tuple[str, Value]]:
    """The lines of a file of terms, each blamed on its own line."""
    name = value.text(what="a file's name")
    if name is None:
        return []
    path = folder / name
    into.included.append(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = str(exc.strerror or exc).lower() if isinstance(exc, OSError) else "it is not UTF-8"
        value.wrong(f"cannot read `{path}`: {reason}")
        return []
    import yaml

    file = SourceFile(str(path), text)
    lines = []
    at = 0
    for number, line in enumerate(text.split("\n")):
        term = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if term:
            column = line.index(term[0])
            begin = yaml.Mark(str(path), at + column, number, column, None, 0)
            stop = column + len(term)
            end = yaml.Mark(str(path), at + stop, number, stop, None, 0)
            node = yaml.ScalarNode("tag:yaml.org,2002:str", term, begin, end)
            lines.append((term, Value(node, file, value.found)))
        at += len(line) + 1
    return lines
