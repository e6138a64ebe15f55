"""Topics and brands: saved boolean queries, and each one's share of voice.

    tram OR "night bus"            either
    tram -delay                    the first without the second; `NOT delay` says the same
    (tram OR bus) AND late         AND may be left out
    #transit  tram*                a tag; a word that begins so

Words are matched whole and without regard to case. Invariant: what a person typed reaches SQL as a parameter only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from dashboard.database import Database
from stream.errors import ConfigError

MAX_TERMS: Final = 40
_TOKEN = re.compile(
    r'\s*(?:(?P<open>\()|(?P<close>\))|(?P<minus>-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s()"]+)))'
)


@dataclass(frozen=True, slots=True)
class Term:
    """A word, the beginning of one, or a phrase."""

    text: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: `of` joins `parts`; `not` has one."""

    of: str
    parts: tuple[Query | Term, ...]

    def matches(self, text: str) -> bool:
        """Whether a text is meant."""
        return _matches(self, text.casefold())


class Brand(NamedTuple):
    """A saved query."""

    name: str
    query: str
    saved_by: str
    saved_ms: int


def parse_query(query: str) -> Query:
    """The query.

    Raises:
        ConfigError: it is empty, too long, or not well formed.
    """
    tokens = _tokens(query)
    if not tokens:
        raise ConfigError("the query is empty", hint='write words: tram OR "night bus"')
    parsed, rest = _either(tokens)
    if rest:
        raise ConfigError(f"unexpected `{rest[0][1]}` in the query", hint="check the brackets")
    return parsed if isinstance(parsed, Query) else Query("and", (parsed,))


def brands(db: Database) -> list[Brand]:
    """Every saved query, by name."""
    found: dict[str, Brand] = {}
    for name, what, who, at_ms, detail in db.execute(
        "SELECT on_what, what, who, at_ms, detail FROM events"
        " WHERE what IN ('brand.save', 'brand.delete') ORDER BY at_ms, event_id"
    ):
        if what == "brand.delete":
            found.pop(name, None)
        else:
            found[name] = Brand(name, json.loads(detail).get("query", ""), who, at_ms)
    return [found[name] for name in sorted(found)]


def posts_meant(
    db: Database, query: Query, after_id: int, through_id: int
) -> list[tuple[int, str, str, str, str]]:
    """(posted_ms, source, language, sentiment, toxicity) of the posts of a stretch that a query means.

    The database finds candidates, the query itself decides.
    """
    candidates, values = _candidates(query)
    rows = db.execute(
        "SELECT posted_ms, source, language, sentiment, toxicity, text FROM posts"  # noqa: S608  placeholders only
        f" WHERE id > ? AND id <= ? AND retracted = 0{candidates}",
        [after_id, through_id, *values],
    )
    return [row[:-1] for row in rows if query.matches(row[-1])]


def _candidates(query: Query | Term) -> tuple[str, list[object]]:
    """A condition that every post meant by the query meets, and few others do."""
    sql, values = _condition(query)
    return (f" AND {sql}", values) if sql else ("", [])


def _condition(node: Query | Term) -> tuple[str, list[object]]:
    if isinstance(node, Term):
        # SQLite folds ASCII only: what is not ASCII is left to `matches`.
        if not node.text.isascii():
            return "", []
        escaped = re.sub(r"([!%_])", r"!\1", node.text)
        return "text LIKE ? ESCAPE '!'", [f"%{escaped}%"]
    if node.of == "not":
        return "", []
    parts = [_condition(part) for part in node.parts]
    if node.of == "or" and not all(sql for sql, _ in parts):
        return "", []
    kept = [(sql, values) for sql, values in parts if sql]
    if not kept:
        return "", []
    joined = f" {node.of.upper()} ".join(sql for sql, _ in kept)
    return f"({joined})", [value for _, values in kept for value in values]


def _matches(node: Query | Term, text: str) -> bool:
    if isinstance(node, Term):
        return _pattern(node).search(text) is not None
    if node.of == "not":
        return not _matches(node.parts[0], text)
    join = any if node.of == "or" else all
    return join(_matches(part, text) for part in node.parts)


_PATTERNS: dict[Term, re.Pattern[str]] = {}


def _pattern(term: Term) -> re.Pattern[str]:
    pattern = _PATTERNS.get(term)
    if pattern is None:
        if len(_PATTERNS) > 1000:
            _PATTERNS.clear()
        before = r"(?<!\w)" if term.text[:1].isalnum() and not _unspaced(term.text) else ""
        after = r"(?!\w)" if term.text[-1:].isalnum() and not _unspaced(term.text) else ""
        spaced = r"\s+".join(re.escape(word) for word in term.text.split())
        pattern = _PATTERNS[term] = re.compile(before + spaced + ("" if term.prefix else after))
    return pattern


def _unspaced(text: str) -> bool:
    """Whether it is written in a script that puts no spaces between words."""
    return any("\u2e80" <= char <= "\u9fff" or "\u0e00" <= char <= "\u0eff" for char in text)


def _tokens(query: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    query = query.strip()
    place = 0
    while place < len(query):
        found = _TOKEN.match(query, place)
        if found is None:
            raise ConfigError("a quotation mark in the query is not closed")
        place = found.end()
        if found["open"]:
            tokens.append(("(", "("))
        elif found["close"]:
            tokens.append((")", ")"))
        elif found["word"] in ("AND", "OR", "NOT") and not found["minus"]:
            tokens.append((found["word"], found["word"]))
        else:
            if found["minus"]:
                tokens.append(("NOT", "-"))
            kind = "phrase" if found["phrase"] is not None else "word"
            tokens.append((kind, found[kind]))
    if sum(kind in ("word", "phrase") for kind, _ in tokens) > MAX_TERMS:
        raise ConfigError(f"the query has more than {MAX_TERMS} terms")
    if len(tokens) > 4 * MAX_TERMS:
        raise ConfigError("the query is too long")
    return tokens


_Tokens = list[tuple[str, str]]


def _either(tokens: _Tokens) -> tuple[Query | Term, _Tokens]:
    part, rest = _all(tokens)
    parts = [part]
    while rest and rest[0][0] == "OR":
        part, rest = _all(rest[1:])
        parts.append(part)
    return (parts[0] if len(parts) == 1 else Query("or", tuple(parts))), rest


def _all(tokens: _Tokens) -> tuple[Query | Term, _Tokens]:
    part, rest = _one(tokens)
    parts = [part]
    while rest and rest[0][0] not in ("OR", ")"):
        part, rest = _one(rest[1:] if rest[0][0] == "AND" else rest)
        parts.append(part)
    if all(isinstance(part, Query) and part.of == "not" for part in parts):
        raise ConfigError(
            "the query only says what is not meant", hint="add a word that is: tram -delay"
        )
    return (parts[0] if len(parts) == 1 else Query("and", tuple(parts))), rest


def _one(tokens: _Tokens) -> tuple[Query | Term, _Tokens]:
    if not tokens:
        raise ConfigError("the query ends where a word should follow")
    (kind, text), rest = tokens[0], tokens[1:]
    if kind == "NOT":
        part, rest = _one(rest)
        return Query("not", (part,)), rest
    if kind == "(":
        part, rest = _either(rest)
        if not rest or rest[0][0] != ")":
            raise ConfigError("a bracket in the query is not closed")
        return part, rest[1:]
    if kind not in ("word", "phrase"):
        raise ConfigError(f"unexpected `{text}` in the query")
    prefix = kind == "word" and text.endswith("*")
    folded = " ".join(
        text.removesuffix("*").casefold().split() if prefix else text.casefold().split()
    )
    if not folded:
        raise ConfigError("a term of the query is empty")
    return Term(folded, prefix), rest
