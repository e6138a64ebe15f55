"""What a page looks at: sources, languages, and what the feed shows of them.

Invariant: what a person typed reaches SQL as a parameter, never as a part of the statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

SENTIMENTS: Final = ("negative", "neutral", "positive")


@dataclass(frozen=True, slots=True)
class Scope:
    """What the whole page looks at."""

    sources: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def where(self) -> tuple[str, list[Any]]:
        """As SQL conditions, each led by AND, and their parameters."""
        sql, parameters = "", list[Any]()
        for column, names in (("source", self.sources), ("language", self.languages)):
            if names:
                sql += f" AND {column} IN ({', '.join('?' * len(names))})"
                parameters += names
        return sql, parameters


#: The whole stream.
EVERYTHING: Final = Scope()


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """What the feed shows of the page's scope; a toxicity of `any` is every label but none."""

    sentiments: tuple[str, ...] = ()
    toxicity: tuple[str, ...] = ()
    score_from: float = 0.0
    score_to: float = 1.0
    author: str = ""
    text: str = ""
    until_ms: int | None = None
    actions: tuple[str, ...] = ()

    @property
    def scans(self) -> bool:
        """Whether it asks for what no index answers."""
        return bool(self.text or self.actions) or self.score_from > 0 or self.score_to < 1

    def where(self, *, searched: bool = False) -> tuple[str, list[Any]]:
        """As SQL conditions, each led by AND, and their parameters.

        Args:
            searched: posts are looked through in a row; the index of the abusive ones, which leads
                from one end of the posts to the other, is kept out of it.
        """
        sql, parameters = "", list[Any]()
        toxicity = "(toxicity || '')" if searched else "toxicity"
        if self.sentiments:
            sql += f" AND sentiment IN ({', '.join('?' * len(self.sentiments))})"
            parameters += self.sentiments
        if "any" in self.toxicity:
            sql += f" AND {toxicity} NOT IN ('', 'none')"
        elif self.toxicity:
            sql += f" AND {toxicity} IN ({', '.join('?' * len(self.toxicity))})"
            parameters += self.toxicity
        if self.author:
            sql += " AND author <> '' AND author = ?"
            parameters.append(self.author)
        if self.until_ms is not None:
            sql += " AND labelled_ms <= ?"
            parameters.append(self.until_ms)
        if self.score_from > 0 or self.score_to < 1:
            sql += " AND toxicity_score BETWEEN ? AND ?"
            parameters += (self.score_from, self.score_to)
        if self.actions:
            sql += (
                " AND EXISTS (SELECT 1 FROM decisions AS d WHERE d.post_id = posts.post_id"  # noqa: S608  placeholders only
                f" AND d.action IN ({', '.join('?' * len(self.actions))}))"
            )
            parameters += self.actions
        if self.text:
            sql += " AND text LIKE ? ESCAPE '!'"
            parameters.append(_like(self.text))
        return sql, parameters


def _like(text: str) -> str:
    for char in "!%_":
        text = text.replace(char, f"!{char}")
    return f"%{text}%"
