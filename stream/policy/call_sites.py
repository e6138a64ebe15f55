"""Calls of our functions, as functions without parameters: what a condition runs instead.

The library keeps the arguments of every call of a Python function for ever, a quarter of a kilobyte
each, and lists that are answered; nothing of a call without arguments whose answer is a number or a
truth, and nothing of a variable. What our functions are given is written out in the condition, so
that each different call can have a name of its own; one that answers a list becomes a variable.
Invariant: a condition that is rewritten says what it said; a call that cannot be read stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from stream.policy.syntax import Node, walk

#: Different calls of one policy that get a name; what is beyond stays as it is written.
MOST_SITES: Final = 256

_STRING = re.compile(
    r"""
    [rR](?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')
    | \"\"\"(?:\\.|.)*?\"\"\" | '''(?:\\.|.)*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
    | //[^\n]*
    """,
    re.VERBOSE | re.DOTALL,
)


class CallSites:
    """The names of calls whose answers are of one type.

    Args:
        prefix: how the names begin; no condition can use them, for they are not declared for checks.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._calls: list[Callable[[], Any]] = []
        self._names: dict[tuple[str, ...], str] = {}

    def declared(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Every name there may be, and what it runs."""
        calls = self._calls
        for number in range(MOST_SITES):
            yield f"{self._prefix}{number}", lambda number=number: calls[number]()  # type: ignore[misc] # mypy knows no defaults in a lambda

    def within(self, rewritten: str) -> dict[str, Callable[[], Any]]:
        """By name the calls that stand in a condition, as `rewritten` gives it."""
        named = re.findall(rf"\b{re.escape(self._prefix)}(\d+)\b", _STRING.sub("", rewritten))
        return {f"{self._prefix}{number}": self._calls[int(number)] for number in named}

    def name_of(self, function: str, run: Callable[..., Any], given: tuple[str, ...]) -> str | None:
        """The name of a call; None: there are too many."""
        site = (function, *given)
        name = self._names.get(site)
        if name is None and len(self._calls) < MOST_SITES:
            name = self._names[site] = f"{self._prefix}{len(self._calls)}"
            self._calls.append(lambda: run(*given))
        return name


def rewritten(source: str, tree: Node, name_of: Callable[[Node], str | None]) -> str:
    """The condition with each call that has another name under that.

    Args:
        source: as it is written.
        tree: what the compiler made of it.
        name_of: told a call; what is written instead, or None where it is to stay.
    """
    edits: dict[int, tuple[int, str]] = {}
    for node, _ in walk(tree):
        if node.kind != "call" or not node.text.isidentifier():
            continue
        # The compiler puts a call at its parenthesis.
        before = re.search(rf"\b{re.escape(node.text)}\s*$", source[: node.offset])
        end = _end_of_call(source, node.offset)
        if before is None or end is None:
            continue
        name = name_of(node)
        if name is not None:
            edits[before.start()] = (end, name)
    for start in sorted(edits, reverse=True):
        end, text = edits[start]
        source = source[:start] + text + source[end:]
    return source


def _end_of_call(source: str, at: int) -> int | None:
    """Behind the parenthesis that closes the one at `at`."""
    if source[at : at + 1] != "(":
        return None
    depth = 0
    while at < len(source):
        if string := _STRING.match(source, at):
            at = string.end()
            continue
        depth += {"(": 1, ")": -1}.get(source[at], 0)
        at += 1
        if depth == 0:
            return at
    return None
