"""How long somebody has been reviewing without a break: pure.

Reading abuse for hours does harm; a reminder after a while is what the literature on moderators'
well-being asks for at the least. Invariant: a pause of `PAUSE_MS` is a break, whoever took it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

#: Choices of ours, on the careful side: there is no agreed figure.
REMIND_AFTER_MS: Final = 50 * 60_000
REMIND_AFTER_POSTS: Final = 100
PAUSE_MS: Final = 10 * 60_000


@dataclass(frozen=True, slots=True)
class ReviewStretch:
    """Reviews without a break between them."""

    began_ms: int
    last_ms: int
    posts: int = 0
    #: After "not now" the reminder comes back when so much more was done.
    again_ms: int = REMIND_AFTER_MS
    again_posts: int = REMIND_AFTER_POSTS

    def at(self, now_ms: int) -> ReviewStretch:
        """The stretch as of now: another one, if there was a break."""
        if now_ms - self.last_ms >= PAUSE_MS:
            return ReviewStretch(now_ms, now_ms)
        return self

    def reviewed(self, now_ms: int) -> ReviewStretch:
        """One post more."""
        current = self.at(now_ms)
        return replace(current, last_ms=now_ms, posts=current.posts + 1)

    def due(self, now_ms: int) -> bool:
        """Whether it is time for a break."""
        return now_ms - self.began_ms >= self.again_ms or self.posts >= self.again_posts

    def later(self, now_ms: int) -> ReviewStretch:
        """Not now: remind again after another twenty minutes or forty posts."""
        return replace(
            self,
            again_ms=now_ms - self.began_ms + 20 * 60_000,
            again_posts=self.posts + 40,
        )
