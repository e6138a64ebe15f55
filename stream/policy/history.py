"""What came before a post: the counts over windows that rules may ask for.

Invariant: a window ends with the post that is judged and includes it, and is measured on the time
of posts, never on the clock. So the same labels give the same decisions, also when replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

#: What a window can be about. `Subject.keys` gives a post's keys of each kind.
KeyKind = Literal["author", "tag", "domain", "mention", "same_text", "source", "language", "thread"]
KINDS: Final[tuple[KeyKind, ...]] = (
    "author",
    "tag",
    "domain",
    "mention",
    "same_text",
    "source",
    "language",
    "thread",
)
Measure = Literal["count", "distinct_authors", "actions"]


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One count that a policy's rules ask for: what, by which key, over how many seconds."""

    measure: Measure
    kind: KeyKind
    seconds: int


class History(Protocol):
    """Counts over the past `window_s` seconds, up to and with the post that is judged.

    Whoever keeps it adds a post, under all its keys, before the post is judged. `key` is one of
    `Subject.keys(kind)`.
    """

    def count(self, kind: KeyKind, key: str, window_s: int) -> int:
        """Posts with this key; at least 1, the post itself."""
        ...

    def distinct_authors(self, kind: KeyKind, key: str, window_s: int) -> int:
        """Different authors of the posts with this key; at least 1 where the post has an author."""
        ...

    def actions(self, author: str, window_s: int) -> int:
        """Earlier posts of the author that were decided `flag` or stricter."""
        ...


class NoHistory:
    """The history of a post that is the first of its kind."""

    def count(self, _kind: KeyKind, _key: str, _window_s: int) -> int:
        """The post itself."""
        return 1

    def distinct_authors(self, _kind: KeyKind, _key: str, _window_s: int) -> int:
        """Its author."""
        return 1

    def actions(self, _author: str, _window_s: int) -> int:
        """None before."""
        return 0


NO_HISTORY: Final = NoHistory()
