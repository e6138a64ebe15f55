"""What makes a term, tag or domain rise: who says it, where, and whether it is few or many.

Invariant: looked for among the newest `SEARCHED_POSTS` posts that the read model holds, and a post
counts if the very term does that the metrics count, not what merely looks like it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from dashboard.database import Database
from dashboard.queries.trends import Frequent
from dashboard.reader import POST_COLUMNS, PostView
from stream.aggregates.terms import domains_of, tags_of, terms_of

#: Posts whose text is looked at word by word; of a more frequent term the newest stand for all.
_READ_POSTS: Final = 1500
#: Posts whose texts are looked through.
SEARCHED_POSTS: Final = 30_000


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


class Rise(NamedTuple):
    """Who says it now, who said it before, and the newest posts with it."""

    now: Said
    before: Said
    newest: list[PostView]


def who_says(
    db: Database, what: Frequent, name: str, periods: tuple[int, int, int], examples: int = 5
) -> Rise:
    """Who says a term, uses a tag or links to a domain.

    Args:
        db: the read model.
        what: what it is.
        name: its name.
        periods: begin of the period before, begin of this one, and its end.
        examples: how many of the newest posts.
    """
    before_s, from_s, to_s = periods
    sql, values = "", list[object]()
    if name.isascii():  # SQLite folds ASCII only
        sql = " AND text LIKE ? ESCAPE '!'"
        escaped = re.sub(r"([!%_])", r"!\1", name.lower())
        values.append(f"%{escaped}%")
    # To read texts is what it costs: once for all that is asked of them. The sum keeps the index by
    # time out of it, which PostgreSQL took for two days of posts where the newest ids are fewer.
    rows = db.execute(
        f"SELECT {POST_COLUMNS} FROM posts WHERE retracted = 0"  # noqa: S608  placeholders only
        " AND id > (SELECT max(id) FROM posts) - ? AND posted_ms + 0 >= ? AND posted_ms + 0 < ?"
        f"{sql} ORDER BY id DESC LIMIT ?",
        [SEARCHED_POSTS, before_s * 1000, to_s * 1000, *values, _READ_POSTS],
    )
    posts = [
        post for post in map(PostView._make, rows) if name in _items(what, post.text, post.language)
    ]
    return Rise(
        _said([post for post in posts if post.posted_ms >= from_s * 1000]),
        _said([post for post in posts if post.posted_ms < from_s * 1000]),
        posts[:examples],
    )


def _said(posts: Sequence[PostView]) -> Said:
    return Said(
        len(posts),
        sum(post.abusive for post in posts),
        Counter(post.author for post in posts if post.author),
        Counter(post.source for post in posts if post.source),
        Counter(post.language for post in posts if post.language),
    )


def _items(what: Frequent, text: str, language: str) -> list[str]:
    if what == "terms":
        return terms_of(text, language)
    return tags_of([], text) if what == "tags" else domains_of([], text)
