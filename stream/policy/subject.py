"""A post and its labels as rules see them.

Invariant: a subject depends on its label record alone, and whatever is missing in it (the post,
the author, a task) is simply not there: a subject can be made of every label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b
from urllib.parse import urlsplit

from stream.policy.history import KeyKind
from stream.records import Author, Label, Post, TaskLabel
from stream.times import timestamp_ms

_LINK = re.compile(
    r"""https?://[^\s<>"'`]+|(?<![\w@.-])(?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}/[^\s<>"'`]+""",
    re.IGNORECASE,
)
_TRAILING = ".,;:!?)]}»”’…"
_NOT_THE_MESSAGE = re.compile(r"(?:https?://\S+|(?<!\w)@[\w.:-]+)")


class Subject:
    """What is judged: made with `of_label`, read by the policy and by whoever keeps its history.

    Attributes:
        label_id: of the label record.
        post_id: of the post.
        labels: every task's answer.
        post: the post, or None where the label carries none.
        text: the post's text, or "".
        at_ms: the time of the post: the broker's where it is known, else when it was labelled.
    """

    def __init__(
        self,
        *,
        label_id: str,
        post_id: str,
        labels: Mapping[str, TaskLabel],
        post: Post | None,
        at_ms: int,
    ) -> None:
        self.label_id = label_id
        self.post_id = post_id
        self.labels = labels
        self.post = post
        self.text = _readable((post.text or "") if post else "")
        self.at_ms = at_ms

    @classmethod
    def of_label(cls, label: Label) -> Subject:
        """The subject of a label record."""
        if label.origin is not None:
            at_ms = label.origin.timestamp_ms
        else:
            at_ms = _ms(label.posted_at) or _ms(label.labelled_at)
        return cls(
            label_id=label.label_id,
            post_id=label.post_id,
            labels=label.labels,
            post=label.post,
            at_ms=at_ms,
        )

    @property
    def author(self) -> Author | None:
        """The author with all that is known; None where the post names none."""
        author = self.post.author if self.post else None
        return Author(id=author) if isinstance(author, str) else author

    @property
    def is_edit(self) -> bool:
        """Whether it replaces an earlier version of the post."""
        return self.post is not None and self.post.op == "update"

    @cached_property
    def author_id(self) -> str | None:
        """The author's id."""
        return self.post.author_id if self.post else None

    @cached_property
    def language(self) -> str | None:
        """The primary language tag: the model's, or what the post says where no model spoke."""
        answer = self.labels.get("language")
        if answer is not None:
            return answer.label
        post = self.post
        said = (post.lang or next(iter(post.langs), None)) if post else None
        return said.partition("-")[0].lower() if said else None

    @cached_property
    def links(self) -> tuple[str, ...]:
        """Links of the post and those in its text, each once."""
        found: dict[str, None] = dict.fromkeys(self.post.links) if self.post else {}
        # The pattern is far dearer than the test, and most posts have no link.
        if "/" in self.text:
            for link in _LINK.findall(self.text):
                found.setdefault(link.rstrip(_TRAILING))
        return tuple(found)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Host names the links lead to, lower case, without `www.`, each once."""
        return tuple(dict.fromkeys(host for link in self.links if (host := host_of(link))))

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """Tags without `#`, lower case."""
        post = self.post
        return tuple(dict.fromkeys(tag.lstrip("#").casefold() for tag in post.tags)) if post else ()

    @cached_property
    def fingerprint(self) -> str | None:
        """One short key for texts that differ in case, spaces, links and mentions only."""
        return _fingerprint(self.text)

    def keys(self, kind: KeyKind) -> tuple[str, ...]:
        """The keys under which a history counts this post."""
        post = self.post
        one: str | None
        match kind:
            case "tag":
                return self.tags
            case "domain":
                return self.domains
            case "mention":
                return (
                    tuple(dict.fromkeys(m.lstrip("@").casefold() for m in post.mentions))
                    if post
                    else ()
                )
            case "author":
                one = self.author_id
            case "same_text":
                one = self.fingerprint
            case "source":
                one = post.source if post else None
            case "language":
                one = self.language
            case "thread":
                one = (post.thread_id or post.reply_to) if post else None
        return (one,) if one else ()


def host_of(link: str) -> str | None:
    """The host name a link leads to, lower case, in ASCII, without `www.`; None if it has none."""
    try:
        host = urlsplit(link if "//" in link else f"//{link}").hostname
    except ValueError:
        return None
    if not host:
        return None
    host = host.rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host.removeprefix("www.") or None


def _readable(text: str) -> str:
    """Without lone surrogates, which are no characters and which no library takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _fingerprint(text: str) -> str | None:
    # The pattern is tried at every character, and most posts have neither.
    if "@" in text or "://" in text:
        text = _NOT_THE_MESSAGE.sub(" ", text)
    words = " ".join(text.split()).casefold()
    return (
        blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        if words
        else None
    )


def _ms(stamp: str | None) -> int:
    try:
        return 0 if stamp is None else timestamp_ms(stamp)
    except ValueError:
        return 0
