"""The desk: who has which post in hand, in a small file or schema of its own beside the read model.

Invariant: a post is in one pair of hands at most, and a post whose review was sent is in nobody's
until the review is taken back or the post is edited. The desk outlives a rebuild of the read model.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final, NamedTuple

from dashboard.database import Database, database_errors, open_beside, reason_of
from dashboard.errors import ClaimError, ReadModelError
from dashboard.queries.queue import Waiting, to_judge, waiting
from stream.database_url import ReadModelAt

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS claims (
    post_id TEXT PRIMARY KEY,
    decision_id TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    claimed_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    sent INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS claims_by_reviewer ON claims (reviewer);
CREATE TABLE IF NOT EXISTS passed (
    post_id TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (post_id, reviewer)
);
CREATE TABLE IF NOT EXISTS sent_reviews (
    review_id TEXT PRIMARY KEY,
    post_id TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    verdict TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
"""
#: Long enough for a projector to catch up after an outage; a sent post comes back in no other way.
_SENT_KEPT_MS: Final = 14 * 86_400_000
_SENDING_MS: Final = 120_000
_FIRST_LOOK: Final = 50


class Claim(NamedTuple):
    """A post in somebody's hands until `expires_ms`."""

    claim_id: str
    reviewer: str
    claimed_ms: int
    expires_ms: int
    post: Waiting


class SentReview(NamedTuple):
    """A review that the broker confirmed."""

    review_id: str
    post_id: str
    decision_id: str
    reviewer: str
    verdict: str


class Desk:
    """Claims; use one per thread, `open_desk` makes it.

    Args:
        db: the desk's database.
        claim_s: how long a claim lasts without being renewed.
    """

    def __init__(self, db: Database, claim_s: int) -> None:
        self._db = db
        self._claim_ms = claim_s * 1000

    def claim_next(
        self,
        model: Database,
        reviewer: str,
        now_ms: int,
        *,
        languages: tuple[str, ...] = (),
        escalated: bool | None = None,
        passed: bool = False,
    ) -> Claim | None:
        """The post that this reviewer is to judge; None: there is nothing for them.

        Who has a post in hand gets the same one again, and more time for it.

        Args:
            model: the read model.
            reviewer: a pseudonym.
            now_ms: the time.
            languages: only posts in these.
            escalated: only escalated posts, or only the others; None: both.
            passed: also what this reviewer skipped or escalated.
        """
        held = self.held(model, reviewer, now_ms)
        if held is not None:
            return held
        limit = _FIRST_LOOK
        while True:
            candidates = waiting(
                model,
                limit,
                languages=languages,
                escalated=escalated,
                not_passed_by=None if passed else reviewer,
            )
            with self._db.exclusively():
                self._drop_expired(now_ms)
                free = self._free(candidates, reviewer, passed=passed)
                if free is not None:
                    return self._take(free, reviewer, now_ms)
            if len(candidates) < limit:
                return None
            limit *= 4

    def held(self, model: Database, reviewer: str, now_ms: int) -> Claim | None:
        """What this reviewer has in hand, renewed; let go if it needs no review any more."""
        with self._db.exclusively():
            self._drop_expired(now_ms)
            row = self._db.execute(
                "SELECT claim_id, claimed_ms, post_id, decision_id FROM claims"
                " WHERE reviewer = ? AND sent = 0",
                (reviewer,),
            ).fetchone()
            if row is None:
                return None
            claim_id, claimed_ms, post_id, decision_id = row
            post = to_judge(model, post_id)
            if post is None or post.decision_id != decision_id:
                self._db.execute("DELETE FROM claims WHERE claim_id = ?", (claim_id,))
                return None
            expires_ms = now_ms + self._claim_ms
            self._db.execute(
                "UPDATE claims SET expires_ms = ? WHERE claim_id = ?", (expires_ms, claim_id)
            )
        return Claim(claim_id, reviewer, claimed_ms, expires_ms, post)

    def renew(self, claim: Claim, now_ms: int) -> bool:
        """More time for a post that is being read; False: it is not in these hands any more."""
        with self._db.exclusively():
            changed = self._db.execute(
                "UPDATE claims SET expires_ms = CASE WHEN expires_ms > ? THEN expires_ms ELSE ? END"
                " WHERE claim_id = ? AND sent = 0 AND expires_ms > ?",
                (now_ms + self._claim_ms, now_ms + self._claim_ms, claim.claim_id, now_ms),
            ).rowcount
        return changed == 1

    def claim(self, model: Database, post_id: str, reviewer: str, now_ms: int) -> Claim:
        """Take a post that was chosen by hand, from the queue or not; what was in hand is let go.

        Raises:
            ClaimError: somebody else has it, or nobody decided on it yet.
        """
        post = to_judge(model, post_id)
        if post is None:
            raise ClaimError("the post is deleted, or nothing has been decided about it yet")
        with self._db.exclusively():
            self._drop_expired(now_ms)
            row = self._db.execute(
                "SELECT reviewer, sent, decision_id FROM claims WHERE post_id = ?", (post_id,)
            ).fetchone()
            if row is not None and row[0] != reviewer and not row[1]:
                raise ClaimError("somebody else is reviewing this post")
            self._db.execute("DELETE FROM claims WHERE reviewer = ? AND sent = 0", (reviewer,))
            return self._take(post, reviewer, now_ms)

    def release(self, claim: Claim) -> None:
        """Put a post back."""
        with self._db.exclusively():
            self._db.execute(
                "DELETE FROM claims WHERE claim_id = ? AND sent = 0", (claim.claim_id,)
            )

    def hold_for_sending(self, claim: Claim, now_ms: int) -> None:
        """Make sure that the post is still this reviewer's, and stays so while it is sent.

        Raises:
            ClaimError: the claim has run out.
        """
        with self._db.exclusively():
            changed = self._db.execute(
                "UPDATE claims SET expires_ms = CASE WHEN expires_ms > ? THEN expires_ms ELSE ? END"
                " WHERE claim_id = ? AND reviewer = ? AND sent = 0 AND expires_ms > ?",
                (
                    now_ms + _SENDING_MS, now_ms + _SENDING_MS, claim.claim_id, claim.reviewer, now_ms,
                ),
            ).rowcount  # fmt: skip
        if changed != 1:
            raise ClaimError(
                "this post is not in your hands any more",
                hint="the claim ran out, and somebody else may have it: take the next post",
            )

    def sent(self, claim: Claim, review: SentReview, now_ms: int) -> None:
        """The broker has the review: the post is nobody's, or, passed on, free for others."""
        with self._db.exclusively():
            if review.verdict == "decide":
                self._db.execute(
                    "UPDATE claims SET sent = 1, expires_ms = ? WHERE claim_id = ?",
                    (now_ms + _SENT_KEPT_MS, claim.claim_id),
                )
            else:
                self._db.execute("DELETE FROM claims WHERE claim_id = ?", (claim.claim_id,))
                self._db.execute(
                    "INSERT INTO passed VALUES (?, ?, ?, ?) ON CONFLICT (post_id, reviewer)"
                    " DO UPDATE SET decision_id = excluded.decision_id, at_ms = excluded.at_ms",
                    (review.post_id, review.reviewer, review.decision_id, now_ms),
                )
            self._db.execute(
                "INSERT INTO sent_reviews VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (review_id) DO NOTHING",
                (*review, now_ms),
            )

    def sent_review(self, review_id: str) -> SentReview | None:
        """A review as it was sent from here."""
        row = self._db.execute(
            "SELECT review_id, post_id, decision_id, reviewer, verdict FROM sent_reviews"
            " WHERE review_id = ?",
            (review_id,),
        ).fetchone()
        return None if row is None else SentReview(*row)

    def last_sent(self, reviewer: str) -> SentReview | None:
        """What this reviewer sent last and did not take back."""
        row = self._db.execute(
            "SELECT review_id, post_id, decision_id, reviewer, verdict FROM sent_reviews"
            " WHERE reviewer = ? ORDER BY at_ms DESC, review_id LIMIT 1",
            (reviewer,),
        ).fetchone()
        return None if row is None else SentReview(*row)

    def undone(
        self, model: Database, review: SentReview, reviewer: str, now_ms: int
    ) -> Claim | None:
        """The broker has the undo: the post is back in these hands, if it is still to be judged."""
        post = to_judge(model, review.post_id)
        with self._db.exclusively():
            self._db.execute("DELETE FROM sent_reviews WHERE review_id = ?", (review.review_id,))
            self._db.execute(
                "DELETE FROM passed WHERE post_id = ? AND reviewer = ?",
                (review.post_id, review.reviewer),
            )
            row = self._db.execute(
                "SELECT reviewer, sent FROM claims WHERE post_id = ?", (review.post_id,)
            ).fetchone()
            if row is not None and not row[1] and row[0] != reviewer:
                return None
            self._db.execute("DELETE FROM claims WHERE post_id = ?", (review.post_id,))
            self._db.execute("DELETE FROM claims WHERE reviewer = ? AND sent = 0", (reviewer,))
            return None if post is None else self._take(post, reviewer, now_ms)

    def in_hand(self, now_ms: int) -> int:
        """How many posts are being reviewed right now."""
        row = self._db.execute(
            "SELECT count(*) FROM claims WHERE sent = 0 AND expires_ms > ?", (now_ms,)
        ).fetchone()
        return int(row[0])

    def _free(self, candidates: list[Waiting], reviewer: str, *, passed: bool) -> Waiting | None:
        for post in candidates:
            row = self._db.execute(
                "SELECT decision_id, sent FROM claims WHERE post_id = ?", (post.post_id,)
            ).fetchone()
            # What was sent of an earlier text says nothing of this one.
            if row is not None and not (row[1] and row[0] != post.decision_id):
                continue
            row = self._db.execute(
                "SELECT decision_id FROM passed WHERE post_id = ? AND reviewer = ?",
                (post.post_id, reviewer),
            ).fetchone()
            if row is None or row[0] != post.decision_id or passed:
                return post
        return None

    def _take(self, post: Waiting, reviewer: str, now_ms: int) -> Claim:
        claim = Claim(secrets.token_hex(16), reviewer, now_ms, now_ms + self._claim_ms, post)
        self._db.execute("DELETE FROM claims WHERE post_id = ?", (post.post_id,))
        self._db.execute(
            "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, 0)",
            (post.post_id, post.decision_id, reviewer, claim.claim_id, now_ms, claim.expires_ms),
        )
        return claim

    def _drop_expired(self, now_ms: int) -> None:
        self._db.execute("DELETE FROM claims WHERE expires_ms <= ?", (now_ms,))
        self._db.execute("DELETE FROM sent_reviews WHERE at_ms <= ?", (now_ms - _SENT_KEPT_MS,))
        self._db.execute("DELETE FROM passed WHERE at_ms <= ?", (now_ms - _SENT_KEPT_MS,))


@contextmanager
def open_desk(read_model: ReadModelAt, claim_s: int = 300, *, kept: bool = False) -> Iterator[Desk]:
    """The desk beside a read model; made where it is not there.

    Args:
        read_model: whose desk.
        claim_s: how long a claim lasts.
        kept: see `dashboard.database.open_to_read`.

    Raises:
        ReadModelError: its file or schema cannot be used.
    """
    try:
        with closing(open_beside(read_model, "desk", kept=kept)) as db:
            db.make(_SCHEMA)
            yield Desk(db, claim_s)
    except database_errors() as exc:
        raise ReadModelError(
            f"the desk cannot be used: {reason_of(exc)}", where=str(read_model)
        ) from exc
