"""A rule's condition, compiled and checked for what CEL cannot know: lists, patterns, windows.

Invariant: names of lists, patterns and durations are written out in the condition, so that what
does not exist is found at load and never while posts flow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from stream.policy.compiler_messages import Mistake
from stream.policy.diagnostics import suggestion
from stream.policy.document import Value
from stream.policy.durations import seconds_of
from stream.policy.engine import CompiledRule
from stream.policy.expressions import Environment, Expression
from stream.policy.history import KeyKind, Measure, Window
from stream.policy.reading import FUNCTIONS, PatternError, compiled_pattern
from stream.policy.rule_file import RuleFiles, WrittenRule
from stream.policy.spans import Site
from stream.policy.syntax import Node, walk
from stream.policy.vocabulary import KEY_NAMES, Vocabulary

#: What CEL brings, for `did you mean`.
BUILT_IN: Final = (
    "size", "contains", "startsWith", "endsWith", "matches", "has", "all", "exists", "exists_one",
    "filter", "map", "int", "double", "string", "duration", "timestamp", "getHours", "getDayOfWeek",
)  # fmt: skip
MEASURES: Final = frozenset({"count", "distinct_authors", "actions"})
_IN_TEXT: Final = frozenset({"contains", "startsWith", "endsWith", "matches"})
_WORD_FUNCTIONS: Final = frozenset({"words", "word_count", "terms"})


class Compiler:
    """Compiles the conditions of one load; patterns are compiled once and collected."""

    def __init__(self, environment: Environment, vocabulary: Vocabulary, files: RuleFiles) -> None:
        self.environment = environment
        self.vocabulary = vocabulary
        self.files = files
        self.patterns: dict[str, Any] = {}

    def compile(self, written: WrittenRule) -> CompiledRule | None:
        """The compiled rule; None, and every mistake reported, where there is one."""
        when, rule = written.when, written.rule
        before = len(when.found.found)
        result = self.environment.compile(rule.when)
        if not isinstance(result, Expression):
            for mistake in result:
                self._report(mistake, when)
            self._check_what_is_written(when)
            return None
        nodes = list(walk(result.tree))
        windows = set()
        sites = []
        for node, negated in nodes:
            if node.kind != "call":
                continue
            if window := self._check_window(node, when):
                windows.add(window)
            site = self._check_call(node, when)
            if site is not None and not negated:
                sites.append(site)
            self._check_label(node, when)
        if len(when.found.found) > before:
            return None
        names = frozenset(node.text for node, _ in nodes if node.kind == "name")
        return CompiledRule(
            rule=rule,
            expression=result,
            names=names & self.vocabulary.types.keys(),
            scores=tuple(dict.fromkeys(self._scores([node for node, _ in nodes]))),
            sites=tuple(dict.fromkeys(sites)),
            windows=frozenset(windows),
            languages=frozenset(rule.languages),
            expires_ms=rule.expires_at.timestamp() * 1000 if rule.expires_at else math.inf,
        )

    def _check_what_is_written(self, when: Value) -> None:
        """Lists, patterns and durations of a condition whose types are wrong: all in one run."""
        tree = self.environment.parse(str(when.node.value))
        for node, _ in walk(tree) if tree is not None else ():
            texts = [child for child in node.children if isinstance(child.value, str)]
            if node.kind != "call" or not texts:
                continue
            if (
                node.text in MEASURES
                and len(node.children) == 2
                and node.children[0].kind == "name"
            ):
                self._check_window(node, when)
            elif len(node.children) == (2 if node.text == "matches" else 1):
                self._check_call(node, when)

    def _report(self, mistake: Mistake, when: Value) -> None:
        hint = mistake.hint
        if hint is None and mistake.unknown is not None:
            hint = self._known(mistake.unknown)
        when.wrong_within(mistake.offset, mistake.message, width=mistake.width, hint=hint)

    def _known(self, unknown: str) -> str | None:
        if unknown.endswith("()"):
            name = unknown[:-2]
            if name in FUNCTIONS:
                return f"it is written `{FUNCTIONS[name][0]}`"
            return None if name in BUILT_IN else suggestion(name, [*FUNCTIONS, *BUILT_IN])
        owner, _, _ = unknown.partition(".")
        siblings = [name for name in self.vocabulary.types if name.startswith(f"{owner}.")]
        return suggestion(unknown, siblings) or suggestion(unknown, self.vocabulary.types)

    def _check_call(self, node: Node, when: Value) -> Site | None:
        """A function that looks into the text: does what it looks for exist?"""
        name = node.text
        if name in _WORD_FUNCTIONS:
            return self._in_lists(node, when, self.files.words, "word list", lambda _: False)
        if name == "links_to":
            return self._in_lists(
                node, when, self.files.domains, "list of domains", lambda text: "." in text
            )
        if name == "regex" or (name == "matches" and node.children):
            pattern = node.children[-1]
            text = self._literal(node, pattern, when, needed=name == "regex")
            if text is None or not self._pattern_ok(text, pattern, when):
                return None
            on_text = name == "regex" or _is_text(node)
            return Site(name, text) if on_text else None
        if name in _IN_TEXT and _is_text(node) and isinstance(node.children[-1].value, str):
            return Site(name, node.children[-1].value)
        return None

    def _in_lists(
        self,
        node: Node,
        when: Value,
        known: Mapping[str, object],
        what: str,
        other: Callable[[str], bool],
    ) -> Site | None:
        text = self._literal(node, node.children[0], when, needed=True)
        if text is None:
            return None
        if text not in known and not other(text):
            wrong_kind = text in {**self.files.words, **self.files.domains}
            hint = (
                f"`{text}` is a list of {'domains' if text in self.files.domains else 'words'}"
                if wrong_kind
                else suggestion(text, known)
            )
            self._at(node.children[0], when, f"there is no {what} `{text}`", hint)
            return None
        return Site(node.text, text)

    def _pattern_ok(self, text: str, node: Node, when: Value) -> bool:
        if text in self.patterns:
            return True
        try:
            self.patterns[text] = compiled_pattern(text)
        except PatternError as exc:
            hint = None
            if "perl operator" in str(exc):
                hint = "RE2 has no look-ahead and look-behind: it is linear in the text's length"
            elif "escape" in str(exc):
                hint = "RE2 has no back-references; write r'...' so that CEL keeps each `\\`"
            self._at(node, when, f"not a regular expression: {exc}", hint)
            return False
        return True

    def _check_window(self, node: Node, when: Value) -> Window | None:
        if node.text not in MEASURES:
            return None
        key, duration = node.children
        if key.kind != "name":
            self._at(
                key, when, f"`{node.text}` needs one of the keys", f"known: {', '.join(KEY_NAMES)}"
            )
            return None
        if node.text == "actions" and key.text != "author":
            self._at(key, when, "`actions` is about authors only", 'write `actions(author, "24h")`')
            return None
        text = self._literal(node, duration, when, needed=True)
        if text is None:
            return None
        try:
            seconds = seconds_of(text)
        except ValueError as exc:
            self._at(duration, when, str(exc), "a number and s, m, h or d, as in `5m`; at most 30d")
            return None
        measure: Measure = node.text  # type: ignore[assignment]  # one of the three
        kind: KeyKind = key.text  # type: ignore[assignment]  # the type checker saw to it
        return Window(measure, kind, seconds)

    def _check_label(self, node: Node, when: Value) -> None:
        """`toxicity.label == "insullt"` is never true, and CEL cannot know."""
        if node.text not in ("_==_", "_!=_"):
            return
        left, right = node.children
        name, constant = (left, right) if left.kind == "name" else (right, left)
        task = self.vocabulary.tasks.get(name.text.removesuffix(".label"))
        if name.kind != "name" or not name.text.endswith(".label") or task is None:
            return
        known = (*task.labels, *(("none",) if task.multi_label else ()))
        if isinstance(constant.value, str) and constant.value not in known:
            self._at(
                constant,
                when,
                f"`{task.name}` has no label `{constant.value}`",
                suggestion(constant.value, known),
            )

    def _scores(self, nodes: list[Node]) -> Iterator[tuple[str, str | None]]:
        for node in nodes:
            name = self.vocabulary.names.get(node.text) if node.kind == "name" else None
            if name is not None and name.score:
                yield node.text, None
            if node.kind == "call" and node.text == "_[_]":
                owner, key = node.children
                if owner.text.endswith(".scores") and isinstance(key.value, str):
                    yield owner.text, key.value

    def _literal(self, call: Node, node: Node, when: Value, *, needed: bool) -> str | None:
        if isinstance(node.value, str):
            return node.value
        if needed:
            self._at(
                node,
                when,
                f"what `{call.text}` looks for must be written out",
                f"as in `{FUNCTIONS[call.text][0]}`",
            )
        return None

    def _at(self, node: Node, when: Value, message: str, hint: str | None) -> None:
        width = len(node.value) + 2 if isinstance(node.value, str) else max(1, len(node.text))
        when.wrong_within(node.offset, message, width=width, hint=hint)


def _is_text(node: Node) -> bool:
    return bool(node.children) and node.children[0].text == "post.text"
