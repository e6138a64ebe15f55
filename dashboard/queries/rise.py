"""What makes a term, tag or domain rise: who says it, where, and whether it is few or many.

Invariant: looked for among the newest `SEARCHED_POSTS` posts that the read model holds, and a post
counts if the very term does that the metrics count, not what merely looks like it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, NamedTuple

from dashboard.database import Database
from dashboard.queries.brands import SEARCHED_POSTS
from dashboard.queries.trends import Frequent
from stream.aggregates.terms import domains_of, tags_of, terms_of

#: Posts whose text is looked at word by word; of a more frequent term the newest stand for all.
_READ_POSTS: Final = 5000


class Said(NamedTuple):
    """Who said it in a stretch of time; counters by post, the busiest first."""

    posts: int
    toxic: int
    authors: Counter[str]
    sources: Counter[str]
    languages: Counter[str]

    @property
    def loudest(self) -> float:
        """The share of its posts that the busiest author wrote: 0 to 1."""
        return max(self.authors.values(), default=0) / self.posts if self.posts else 0.0


def who_says(db: Database, what: Frequent, name: str, from_s: int, to_s: int) -> Said:
    """Who said a term, used a tag or linked to a domain between two times."""
    sql, values = "", list[object]()
    if name.isascii():  # SQLite folds ASCII only
        sql = " AND lower(text) LIKE ? ESCAPE '!'"
        escaped = re.sub(r"([!%_])", r"!\1", name.lower())
        values.append(f"%{escaped}%")
    rows = db.execute(
        "SELECT text, author, source, language, toxicity FROM posts WHERE retracted = 0"  # noqa: S608  placeholders only
        " AND id > (SELECT max(id) FROM posts) - ? AND posted_ms >= ? AND posted_ms < ?"
        f"{sql} ORDER BY id DESC LIMIT ?",
        [SEARCHED_POSTS, from_s * 1000, to_s * 1000, *values, _READ_POSTS],
    )
    posts = toxic = 0
    authors, sources, languages = Counter[str](), Counter[str](), Counter[str]()
    for text, author, source, language, toxicity in rows:
        if name in _items(what, text, language):
            posts += 1
            toxic += toxicity not in ("", "none")
            authors[author] += bool(author)
            sources[source] += bool(source)
            languages[language] += bool(language)
    return Said(posts, toxic, +authors, +sources, +languages)


def _items(what: Frequent, text: str, language: str) -> list[str]:
    if what == "terms":
        return terms_of(text, language)
    return tags_of([], text) if what == "tags" else domains_of([], text)
