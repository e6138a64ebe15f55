"""Text from posts, made harmless for whoever shows it.

Two steps, always in this order: `plain` takes away what no reader should get (control and
direction characters), then a target's own escape breaks what its markup would act on. What is
escaped is a `Safe`; anything else that reaches a template's output is escaped there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

#: Between characters that must not be read together; not seen, and no joiner of words.
_BREAK: Final = "\u200b"
_KEPT: Final = frozenset("\n\t")
#: Format characters with a meaning in scripts and emoji; all others go (category Cf).
_JOINERS: Final = frozenset("\u200c\u200d")
_LINE_ENDS: Final = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
#: Slack's marks where they can begin or end a stretch, and look-alikes that mean nothing.
_SLACK_MARKS: Final = {"*": "∗", "_": "＿", "~": "∼", "`": "ˋ"}
_SLACK_MARK: Final = re.compile(r"(?<![^\W_])[*_~]|[*_~](?![^\W_])|`")
_DISCORD_MARK: Final = re.compile(r"([\\*_~`|>#\-+\[\]()<])")
_ENTITY_PART: Final = re.compile(r"&[a-z]{0,3}$")


class Safe(str):
    """A text that is escaped already; whatever is made of it by a method is not."""

    __slots__ = ()


def plain(text: object) -> str:
    """The text without control, direction and other invisible characters; lines stay lines."""
    lines = _LINE_ENDS.sub("\n", str(text))
    return "".join(c for c in lines if c in _KEPT or c in _JOINERS or _is_visible(c))


def one_line(text: object) -> str:
    """`plain`, on one line."""
    return " ".join(plain(text).split())


def _is_visible(char: str) -> bool:
    # Control, format, surrogates. What is not assigned yet may be next year's emoji.
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs")


def for_slack(text: object) -> str:
    """For Slack's mrkdwn: no mention, link, quote or format comes of it."""
    cleaned = _SLACK_MARK.sub(lambda m: _SLACK_MARKS[m[0]], plain(text))
    escaped = cleaned.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A line that begins with `&gt;` is a quote, `:word:` an emoji.
    escaped = re.sub(r"(?m)^(?=&gt;)", _BREAK, escaped)
    return re.sub(r":(?=[0-9_+\-]*[a-z][a-z0-9_+\-]*:)", f":{_BREAK}", escaped)


def for_discord(text: object) -> str:
    """For Discord's markdown: no mention, link, heading or format comes of it."""
    escaped = _DISCORD_MARK.sub(r"\\\1", plain(text))
    # `allowed_mentions` already keeps them from ringing; this keeps them from looking real.
    escaped = escaped.replace("@", f"@{_BREAK}")
    escaped = re.sub(r"(?m)^(\s*\d+)\.(?=\s|$)", rf"\1{_BREAK}.", escaped)
    # No address becomes a link that `link` did not make.
    return escaped.replace("://", f":{_BREAK}//")


def for_people(text: object) -> str:
    """For plain text: mail, incidents, annotations."""
    return plain(text)


def slack_link(url: str) -> str:
    """A link of Slack's, or the escaped text where it is no web address."""
    if not _is_web_address(url):
        return for_slack(url)
    return "<" + url.replace("&", "&amp;").replace("|", "%7C") + ">"


def discord_link(url: str) -> str:
    """A link of Discord's without a preview, or the escaped text where it is no web address."""
    return f"<{url}>" if _is_web_address(url) else for_discord(url)


def plain_link(url: str) -> str:
    """The address, on one line."""
    return one_line(url)


def _is_web_address(url: str) -> bool:
    return re.fullmatch(r"https?://[!-;=?-~]{1,2000}", url) is not None


def cut(text: str, most: int, escape: Callable[[object], str] = for_people) -> str:
    """At most `most` characters of an escaped text, with no escape cut in two."""
    if len(text) <= most:
        return text
    short = text[: most - 1]
    if escape is for_slack:
        short = _ENTITY_PART.sub("", short)
        opened = short.rfind("<")
        if opened > short.rfind(">"):
            short = short[:opened]
    if escape is for_discord:
        backslashes = len(short) - len(short.rstrip("\\"))
        short = short[:-1] if backslashes % 2 else short
    return short + "…"
