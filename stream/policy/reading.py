"""What the functions of conditions answer for the post at hand.

A `Reading` lives for one evaluation; what several rules ask is found out once. Invariant: nothing
here depends on which rule asks, or in which order.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import re2

from stream.policy.durations import seconds_of
from stream.policy.expressions import BOOL, INT, KEY, STRING, STRINGS, Function
from stream.policy.history import History, KeyKind
from stream.policy.subject import Subject, host_of
from stream.policy.words import Hit, WordIndex

_QUIET: Final = re2.Options()
_QUIET.log_errors = False
#: For all patterns of a policy together; RE2's default is 8 MiB for one.
_SET_BYTES: Final = 64 << 20


class PatternError(ValueError):
    """Not a regular expression of RE2."""


def compiled_pattern(pattern: str) -> Any:
    """A regular expression without catastrophic cases: linear in the text's length.

    Raises:
        PatternError: it is none.
    """
    try:
        return re2.compile(pattern, _QUIET)
    except re2.error as exc:
        reason = exc.args[0]
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise PatternError(text) from None


class Lists:
    """What the functions look into: word lists in one index, domain lists, compiled patterns."""

    def __init__(
        self,
        words: WordIndex,
        domains: Mapping[str, frozenset[str]],
        patterns: Mapping[str, Any],
        safe_domains: frozenset[str] = frozenset(),
        contents: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.words = words
        self.domains = domains
        self.patterns = patterns
        self.safe_domains = safe_domains
        #: List or safelist to its entries as they were written, for comparing policies.
        self.contents = contents or {}
        self._numbers = tuple(patterns)
        self._set: Any = None
        if len(patterns) > 1:
            options = re2.Options()
            options.log_errors = False
            options.max_mem = _SET_BYTES
            self._set = re2.Set.SearchSet(options)
            for pattern in patterns:
                self._set.Add(pattern)
            self._set.Compile()

    def found(self, text: str) -> frozenset[str] | None:
        """The patterns that are in the text, all in one pass; None where there is no set."""
        if self._set is None:
            return None
        return frozenset(self._numbers[number] for number in self._set.Match(text) or ())


class Reading:
    """One post being judged."""

    __slots__ = ("_counts", "_found", "_hits", "_hosts", "_matched", "history", "lists", "subject")

    def __init__(self, subject: Subject, history: History, lists: Lists) -> None:
        self.subject = subject
        self.history = history
        self.lists = lists
        self._hits: Mapping[str, Sequence[Hit]] | None = None
        self._hosts: tuple[str, ...] | None = None
        self._found: frozenset[str] | None = None
        self._matched: dict[str, bool] = {}
        self._counts: dict[tuple[str, str, str], int] = {}

    def hits(self, name: str) -> Sequence[Hit]:
        """The terms of a word list in the text."""
        if self._hits is None:
            self._hits = self.lists.words.hits(self.subject.text)
        return self._hits.get(name, ())

    def hosts(self) -> tuple[str, ...]:
        """The hosts of the post's links, less the safelisted ones."""
        if self._hosts is None:
            safe = self.lists.safe_domains
            self._hosts = tuple(h for h in self.subject.domains if not is_under(h, safe))
        return self._hosts

    def links(self) -> tuple[str, ...]:
        """The post's links, less those to safelisted domains."""
        safe = self.lists.safe_domains
        if not safe:
            return self.subject.links
        return tuple(link for link in self.subject.links if not is_under(host_of(link) or "", safe))

    def matches(self, pattern: str) -> bool:
        """Is the regular expression anywhere in the text?"""
        if self._found is None:
            self._found = self.lists.found(self.subject.text)
        if self._found is not None and pattern in self.lists.patterns:
            return pattern in self._found
        known = self._matched.get(pattern)
        if known is None:
            compiled = self.lists.patterns.get(pattern) or compiled_pattern(pattern)
            known = compiled.search(self.subject.text) is not None
            self._matched[pattern] = known
        return known

    def links_to(self, name: str) -> bool:
        """Does a link lead to a domain of the list, or to the domain itself?"""
        wanted = self.lists.domains.get(name)
        if wanted is None:
            wanted = frozenset((name.lower(),))
        return any(is_under(host, wanted) for host in self.hosts())

    def count(self, measure: str, kind: KeyKind, duration: str) -> int:
        """The highest count over the post's keys of that kind; 0 where it has none."""
        asked = (measure, kind, duration)
        known = self._counts.get(asked)
        if known is None:
            window_s = seconds_of(duration)
            if measure == "actions":
                author = self.subject.author_id
                known = self.history.actions(author, window_s) if author else 0
            else:
                keys = self.hosts() if kind == "domain" else self.subject.keys(kind)
                ask = getattr(self.history, measure)
                known = max((int(ask(kind, key, window_s)) for key in keys), default=0)
            self._counts[asked] = known
        return known


def is_under(host: str, domains: frozenset[str]) -> bool:
    """Is the host one of the domains or below one of them?"""
    while host:
        if host in domains:
            return True
        _, _, host = host.partition(".")
    return False


class Current(threading.local):
    """The post that this thread is judging: CEL passes functions their arguments and no more."""

    reading: Reading


def functions(current: Current) -> list[Function]:
    """The functions of conditions, answering for the current post."""

    def matches(pattern: str) -> bool:
        return current.reading.matches(pattern)

    def links_to(name: str) -> bool:
        return current.reading.links_to(name)

    return [
        Function("words", (STRING,), BOOL, lambda name: bool(current.reading.hits(name))),
        Function("word_count", (STRING,), INT, lambda name: len(current.reading.hits(name))),
        Function(
            "terms",
            (STRING,),
            STRINGS,
            lambda name: list(dict.fromkeys(hit.term for hit in current.reading.hits(name))),
        ),
        Function("regex", (STRING,), BOOL, matches),
        Function("links_to", (STRING,), BOOL, links_to),
        *(
            Function(
                measure,
                (KEY, STRING),
                INT,
                lambda kind, duration, measure=measure: current.reading.count(
                    measure, kind, duration
                ),
            )
            for measure in ("count", "distinct_authors", "actions")
        ),
    ]


#: Function to how it is written and what it answers.
FUNCTIONS: Final[dict[str, tuple[str, str]]] = {
    "words": ('words("list")', "a term of the word list is in the text, also disguised"),
    "word_count": ('word_count("list")', "how many there are"),
    "terms": ('terms("list")', "which terms of the list they are"),
    "regex": ('regex(r"...")', "the regular expression (RE2) is somewhere in the text"),
    "links_to": (
        'links_to("list")',
        "a link leads to a domain of the list, or to the domain named",
    ),
    "count": ('count(author, "5m")', "posts with the same key in that time, this one included"),
    "distinct_authors": ('distinct_authors(tag, "10m")', "their different authors"),
    "actions": ('actions(author, "24h")', "earlier posts of the author decided `flag` or stricter"),
}
