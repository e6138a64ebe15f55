"""The policy in force: rules, compiled, and their verdict on a post.

Invariant: a verdict depends on the subject, its history and the policy's content alone, not on
the order of posts, of rules or of evaluation, nor on threads. A `Policy` never changes; it may be
used by several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

from stream.outcomes import Action, RuleMatch, Severity
from stream.policy.expressions import Environment, Expression, Facts, Failure, Unknown
from stream.policy.history import NO_HISTORY, History, Window
from stream.policy.reading import Current, Lists, Reading
from stream.policy.spans import Site, spans_of
from stream.policy.subject import Subject
from stream.policy.verdict import FailedRule, Verdict
from stream.policy.vocabulary import Missing, Vocabulary

Mode = Literal["live", "shadow", "off"]
#: A post that one rule of a group matches costs a call for each of them.
_GROUP_RULES: Final = 12
_SEVERITY_RANK: Final = {severity: rank for rank, severity in enumerate(get_args(Severity))}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it stands in the file.

    `quota` is the most posts a day on which a strong action of the rule may fall, enforced by
    whoever sends decisions. `languages` empty: all of them. After `expires_at` it is off.
    """

    id: str
    version: str
    when: str
    action: Action
    severity: Severity
    reason: str
    mode: Mode = "live"
    description: str = ""
    languages: tuple[str, ...] = ()
    expires_at: datetime | None = None
    priority: int = 0
    quota: int | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to run.

    `names` are the variables its condition reads, `scores` those (and `task.scores` with a label)
    that a match's score is taken from, `sites` the places in it that point into the text.
    """

    rule: Rule
    expression: Expression
    names: frozenset[str]
    scores: tuple[tuple[str, str | None], ...]
    sites: tuple[Site, ...]
    windows: frozenset[Window]
    languages: frozenset[str]
    expires_ms: float


@dataclass(frozen=True, slots=True)
class _Group:
    """Rules for the same languages, and one expression that is true if any of theirs is.

    Most posts match nothing. A call into CEL costs more than most conditions, and CEL's `||` is
    false only if every side is false: one call then answers for all. True or an error asks each.
    """

    rules: tuple[CompiledRule, ...]
    languages: frozenset[str]
    any_holds: Expression | None


@dataclass(frozen=True, slots=True)
class Safelist:
    """Whose posts no rule touches."""

    authors: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()

    def exempts(self, subject: Subject) -> str | None:
        """`author`, `language` or None."""
        if self.authors and subject.author_id in self.authors:
            return "authors"
        if self.languages and subject.language in self.languages:
            return "languages"
        return None


class Policy:
    """Rules, lists and safelists, checked and compiled; made by `load_policy`.

    Attributes:
        name: as the file says, or None.
        version: of the content: the same rules and lists give the same version.
        rules: every rule, also those that are off.
        windows: every count over a window that rules which are not off ask a history for.
        quota: strong actions a day over all rules, if the policy limits them.
        lists: word lists, domain lists and patterns.
        vocabulary: the names that conditions may use.
    """

    def __init__(
        self,
        compiled: Sequence[CompiledRule],
        *,
        name: str | None,
        version: str,
        quota: int | None,
        safelist: Safelist,
        lists: Lists,
        vocabulary: Vocabulary,
        environment: Environment,
        current: Current,
    ) -> None:
        self.name = name
        self.version = version
        self.quota = quota
        self.safelist = safelist
        self.vocabulary = vocabulary
        self.environment = environment
        self.compiled = tuple(compiled)
        self.rules = tuple(each.rule for each in compiled)
        self._active = tuple(each for each in compiled if each.rule.mode != "off")
        self._groups = _groups(self._active, vocabulary, environment)
        windows = {window for each in self._active for window in each.windows}
        self.windows = tuple(sorted(windows))
        used = {name for each in self._active for name in each.names}
        self._read = tuple(
            (n, vocabulary.names[n].read) for n in sorted(used & vocabulary.names.keys())
        )
        self._constants = {n: n for n in vocabulary.types if n not in vocabulary.names}
        self.lists = lists
        self._current = current

    def evaluate(self, subject: Subject, history: History = NO_HISTORY) -> Verdict:
        """The verdict on one post; a rule that fails is in `Verdict.failed`, and never raises."""
        reading, values, facts = self.begin(subject, history)
        language = subject.language
        safelist = self.safelist.exempts(subject)
        matches: list[tuple[int, RuleMatch]] = []
        failed: list[FailedRule] = []
        for group in self._groups:
            if group.languages and language not in group.languages:
                continue
            # False: none of the group's conditions is true, and none failed.
            if group.any_holds is not None and group.any_holds.holds(facts) is False:
                continue
            for each in group.rules:
                if subject.at_ms >= each.expires_ms:
                    continue
                answer = each.expression.holds(facts)
                if answer is True:
                    shadow = safelist is not None
                    matches.append(
                        (each.rule.priority, _match(each, reading, values, shadow=shadow))
                    )
                elif answer is not False and (problem := self.problem_of(answer)):
                    failed.append(FailedRule(each.rule.id, each.rule.version, problem))
        if not matches and not failed:
            return _ALLOWED if safelist is None else Verdict(safelist=safelist)
        return verdict_of(matches, failed, safelist)

    def begin(self, subject: Subject, history: History) -> tuple[Reading, dict[str, Any], Facts]:
        """Make a post this thread's current one: what functions answer for, and the facts."""
        reading = Reading(subject, history, self.lists)
        self._current.reading = reading
        values: dict[str, Any] = dict(self._constants)
        for name, read in self._read:
            try:
                values[name] = read(reading)
            except Missing:
                continue
            except Exception:  # noqa: BLE001, S112 - rules that need the value fail, the others go on
                continue
        return reading, values, self.environment.facts(values)

    def problem_of(self, answer: Failure | Unknown) -> str | None:
        """What is wrong, or None where only a fact is missing that posts need not bring."""
        if isinstance(answer, Failure):
            return answer.error
        name = self.vocabulary.names.get(answer.name)
        if name is not None and name.optional:
            return None
        return f"the label has no `{answer.name}`"

    def with_modes(self, modes: Mapping[str, Mode]) -> Policy:
        """The same policy with some rules in other modes, as a circuit breaker needs it.

        Ids that are no rule's are passed over: the policy may have changed since.
        """
        return Policy(
            [
                replace(each, rule=replace(each.rule, mode=modes.get(each.rule.id, each.rule.mode)))
                for each in self.compiled
            ],
            name=self.name,
            version=self.version,
            quota=self.quota,
            safelist=self.safelist,
            lists=self.lists,
            vocabulary=self.vocabulary,
            environment=self.environment,
            current=self._current,
        )


_ALLOWED: Final = Verdict()


def _groups(
    rules: Sequence[CompiledRule], vocabulary: Vocabulary, environment: Environment
) -> tuple[_Group, ...]:
    together: dict[tuple[frozenset[str], bool], list[CompiledRule]] = {}
    alone: list[CompiledRule] = []
    for each in rules:
        optional = any(vocabulary.names[n].optional for n in each.names if n in vocabulary.names)
        # A fact that posts often lack would make the group's answer an error, time and again.
        # Nor do the others pay for a rule that asks for a list, or fail with it.
        key = each.languages, bool(each.expression.lists)
        (alone if optional else together.setdefault(key, [])).append(each)
    groups = [_Group((each,), each.languages, None) for each in alone]
    for (languages, _), same in together.items():
        for begin in range(0, len(same), _GROUP_RULES):
            part = tuple(same[begin : begin + _GROUP_RULES])
            source = " || ".join(f"({each.rule.when}\n)" for each in part)
            compiled = environment.compile(source) if len(part) > 1 else None
            any_holds = compiled if isinstance(compiled, Expression) else None
            groups.append(_Group(part, languages, any_holds))
    return tuple(groups)


def _match(
    each: CompiledRule, reading: Reading, values: Mapping[str, Any], *, shadow: bool
) -> RuleMatch:
    rule = each.rule
    return RuleMatch(
        id=rule.id,
        version=rule.version,
        mode="shadow" if shadow or rule.mode == "shadow" else "live",
        action=rule.action,
        severity=rule.severity,
        reason=rule.reason,
        score=_score(each, values),
        spans=spans_of(each.sites, reading) if each.sites else [],
    )


def _score(each: CompiledRule, values: Mapping[str, Any]) -> float | None:
    scores = [
        values[name] if label is None else values[name].get(label, 0.0)
        for name, label in each.scores
        if name in values
    ]
    return max(scores, default=None)


def verdict_of(
    matches: list[tuple[int, RuleMatch]], failed: list[FailedRule], safelist: str | None
) -> Verdict:
    """The verdict that follows from matches with their rules' priorities, and from failures."""
    matches.sort(key=_rank)
    ordered = tuple(match for _, match in matches)
    failures = tuple(sorted(failed, key=lambda rule: rule.id))
    decisive = ordered[0] if ordered and ordered[0].mode == "live" else None
    if decisive is None:
        return Verdict(matches=ordered, failed=failures, safelist=safelist)
    return Verdict(
        action=decisive.action,
        severity=decisive.severity,
        reason=decisive.reason,
        decisive=decisive.id,
        matches=ordered,
        failed=failures,
        safelist=safelist,
    )


def _rank(ranked: tuple[int, RuleMatch]) -> tuple[bool, int, int, int, str]:
    """Live before shadow, then the strictest, the highest priority, the most severe; then by id."""
    priority, match = ranked
    return (
        match.mode != "live",
        -match.action.strictness,
        -priority,
        -_SEVERITY_RANK[match.severity],
        match.id,
    )
