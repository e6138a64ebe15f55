"""Why a rule matched or did not: the values of its condition's parts for one post.

Invariant: the parts are cut from the condition as it is written, and each is evaluated as the
rule itself is; nothing here is a second interpretation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from stream.outcomes import RuleMatch
from stream.policy.engine import CompiledRule, Policy
from stream.policy.expressions import Expression, Facts, Failure, Unknown
from stream.policy.history import NO_HISTORY, History
from stream.policy.subject import Subject
from stream.policy.syntax import walk
from stream.policy.verdict import Verdict

_TOKEN: Final = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))"""
    r"""|(?P<comment>//[^\n]*)|(?P<op>\|\||&&|==|!=|<=|>=|[<>?:!()\[\]{}])|(?P<word>\w+)|(?P<other>.)""",
    re.DOTALL,
)
_LEVELS: Final = (("?",), ("||",), ("&&",), ("==", "!=", "<=", ">=", "<", ">", "in"))
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a condition and its value; `error` where it has none, `parts` what it is made of."""

    source: str
    value: Any
    error: str | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """One rule for one post; `skipped` says why it was not asked."""

    id: str
    version: str
    mode: str
    matched: bool
    condition: Part | None
    skipped: str | None = None
    failed: str | None = None
    match: RuleMatch | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict, and every rule's part in it."""

    verdict: Verdict
    rules: tuple[RuleExplanation, ...]


def explain(policy: Policy, subject: Subject, history: History = NO_HISTORY) -> Explanation:
    """What every rule made of a post, also those that are off."""
    verdict = policy.evaluate(subject, history)
    everything = policy.with_modes({r.id: "shadow" for r in policy.rules if r.mode == "off"})
    _, _, facts = everything.begin(subject, history)
    matches = {match.id: match for match in verdict.matches}
    failures = {rule.id: rule.error for rule in verdict.failed}
    rules = []
    for each in policy.compiled:
        rule = each.rule
        rules.append(
            RuleExplanation(
                id=rule.id,
                version=rule.version,
                mode=rule.mode,
                matched=rule.id in matches,
                condition=part_of(policy, rule.when.strip(), facts),
                skipped=_skipped(each, subject),
                failed=failures.get(rule.id),
                match=matches.get(rule.id),
            )
        )
    return Explanation(verdict, tuple(rules))


def _skipped(each: CompiledRule, subject: Subject) -> str | None:
    if each.rule.mode == "off":
        return "the rule is off"
    if each.languages and subject.language not in each.languages:
        return f"the rule is not for `{subject.language}`"
    if subject.at_ms >= each.expires_ms:
        return "the rule has expired"
    return None


def part_of(policy: Policy, source: str, facts: Facts) -> Part:
    """A piece of a condition with its value, and those of its own pieces."""
    value: Any = None
    error: str | None = None
    compiled = policy.environment.compile(source, any_type=True)
    if isinstance(compiled, Expression):
        value = compiled.value(facts)
        if isinstance(value, Unknown):
            value, error = None, f"the post has no `{value.name}`"
        elif isinstance(value, Failure):
            value, error = None, value.error
    pieces = [piece for piece in _pieces(source) if piece != source]
    parts = tuple(
        part_of(policy, piece, facts) for piece in pieces if not _is_constant(policy, piece)
    )
    return Part(source, value, error, parts)


def _is_constant(policy: Policy, source: str) -> bool:
    tree = policy.environment.parse(source)
    return tree is not None and all(node.kind in ("constant", "other") for node, _ in walk(tree))


def _pieces(source: str) -> list[str]:
    """What an expression is made of, one level down: operands of its weakest operator."""
    tokens = list(_tokens(source))
    bare = _without_parentheses(source, tokens)
    if bare is not None:
        return _pieces(bare) or [bare]
    for operators in _LEVELS:
        cuts = [
            (start, end) for text, start, end, depth in tokens if depth == 0 and text in operators
        ]
        if operators == ("?",) and cuts:
            # `a ? b : c`: only the question is shown; the rest is one of two answers.
            return [source[: cuts[0][0]].strip()]
        if cuts:
            begins = [0, *(end for _, end in cuts)]
            ends = [*(start for start, _ in cuts), len(source)]
            return [source[b:e].strip() for b, e in zip(begins, ends, strict=True)]
    if source.startswith("!"):
        return [source[1:].strip()]
    return []


def _without_parentheses(source: str, tokens: list[tuple[str, int, int, int]]) -> str | None:
    if not (source.startswith("(") and source.endswith(")")):
        return None
    closing = next(end for text, _, end, depth in tokens if text == ")" and depth == 0)
    return source[1:-1].strip() if closing == len(source) else None


def _tokens(source: str) -> Iterator[tuple[str, int, int, int]]:
    """Text, start, end and how deep in brackets; a bracket has the depth outside of it."""
    depth = 0
    for found in _TOKEN.finditer(source):
        text = found[0]
        if found.lastgroup in ("text", "comment"):
            continue
        if text in _CLOSE:
            depth -= 1
        yield text, found.start(), found.end(), depth
        if text in _OPEN:
            depth += 1
