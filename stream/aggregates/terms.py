"""The words, hashtags and domains of a text, in any script.

Invariant: a post counts once per term, and no text, however long or odd, gives more than `MOST`
of anything: what windows keep is bounded by what comes out of here.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from stream.aggregates.stopwords import FUNCTION_CHARACTERS, stop_words

#: Most words, tags and domains counted of one post, the first ones.
MOST_TERMS: Final = 40
MOST_TAGS: Final = 8
MOST_DOMAINS: Final = 8
#: Longer than this is no word, and in a script without spaces a sentence.
_MAX_TERM_CHARS: Final = 30
_MAX_TAG_CHARS: Final = 64
_MAX_DOMAIN_CHARS: Final = 100
#: Beyond this nobody reads, and an attacker writes.
_MAX_TEXT_CHARS: Final = 2_000


def _marks() -> str:
    """Combining marks as ranges of a character class: vowel signs are parts of words."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0x10000):
        # Variation selectors and enclosing marks belong to emoji, not to words.
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_LETTER: Final = r"[^\W\d_]"
_MARKS: Final = _marks()
#: A letter, then letters, digits, marks and joiners (Persian, Indic).
_WORD: Final = re.compile(rf"{_LETTER}[\w{_MARKS}\u200c\u200d]*")
#: The same in ASCII, four times as fast.
_ASCII_WORD: Final = re.compile(r"[a-z][a-z0-9]{2,}")
#: A point inside a word: a domain, an address, a file, a version.
_DOTTED: Final = re.compile(r"\w\.\w")
_LINK: Final = re.compile(r"https?://[^\s<>\"'()\[\]{}|\\^`]+", re.IGNORECASE)
_HASHTAG: Final = re.compile(rf"(?<![\w&/])#((?:[^\W]|[{_MARKS}])+)")
_HOST: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
#: Runs of one kind within a word of Chinese or Japanese.
_RUNS: Final = re.compile(
    r"([\u3400-\u9fff\uf900-\ufaff々]+)|([\u30a1-\u30ffー]+)|([\u3041-\u309f]+)"
)
#: Words of two letters are words from here on.
_AFTER_LATIN: Final = "\u0250"
_EAST_ASIAN: Final = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_intern = sys.intern


def terms_of(text: str, language: str | None = None) -> list[str]:
    """The words of a text that say what it is about, each once, in lower case.

    Words of three letters and more (two outside Latin script), less the language's stop words.
    Chinese is taken in overlapping pairs of characters; of Japanese the pairs of kanji and the
    runs of katakana. Scripts that write no spaces otherwise (Thai, Lao, Khmer, Burmese) give the
    phrases between the spaces that there are.

    Args:
        text: as the post has it.
        language: of the text, for its stop words; None: unknown.
    """
    text = text[:_MAX_TEXT_CHARS]
    plain = text.isascii()
    text = text.lower() if plain else unicodedata.normalize("NFKC", text).lower()
    if "." in text or "@" in text or "#" in text or "/" in text:
        text = " ".join([part for part in text.split() if not _is_no_word(part)])
    if plain:
        words: Iterable[str] = _ASCII_WORD.findall(text)
    elif _EAST_ASIAN.search(text) is None:
        words = _WORD.findall(text.replace("_", " "))
    else:
        words = _east_asian_words(text)
    stops = stop_words(language)
    # One object per word: it is counted in many groups.
    found = [
        _intern(word)
        for word in dict.fromkeys(words)
        if word not in stops
        and 2 <= len(word) <= _MAX_TERM_CHARS
        and (len(word) > 2 or word[0] >= _AFTER_LATIN)
    ]
    return found[:MOST_TERMS]


def _east_asian_words(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.replace("_", " ")):
        if _EAST_ASIAN.search(word) is None:
            yield word
        else:
            yield from _east_asian_terms(word)


def _is_no_word(part: str) -> bool:
    """Whether this is a link, an address, a handle or a hashtag."""
    return (
        "@" in part
        or "#" in part
        or "://" in part
        or ("." in part and _DOTTED.search(part) is not None)
    )


def _east_asian_terms(word: str) -> list[str]:
    terms: list[str] = []
    for han, katakana, _ in _RUNS.findall(word[:200]):
        if len(katakana) >= 2:
            terms.append(katakana[:_MAX_TERM_CHARS])
        terms.extend(
            pair
            for pair in (han[i : i + 2] for i in range(len(han) - 1))
            if pair[0] not in FUNCTION_CHARACTERS and pair[1] not in FUNCTION_CHARACTERS
        )
    return terms


def tags_of(tags: Iterable[str], text: str) -> list[str]:
    """The post's tags and the hashtags of its text, without `#`, folded, each once."""
    found: dict[str, None] = {}
    for tag in tags:
        if name := tag_name(tag):
            found[name] = None
        if len(found) >= MOST_TAGS:
            break
    if "#" in text or "＃" in text:
        for tag in _HASHTAG.findall(text[:_MAX_TEXT_CHARS].replace("＃", "#")):
            # Digits alone are a number of something: `#1`.
            if not tag.isdecimal() and (name := tag_name(tag)):
                found[name] = None
    return list(found)[:MOST_TAGS]


@lru_cache(maxsize=16_384)
def tag_name(tag: str) -> str:
    """A tag as it is counted; empty where nothing is left of it."""
    folded = unicodedata.normalize("NFKC", tag[:_MAX_TAG_CHARS]).casefold().strip().lstrip("#")
    return _intern(_printable(folded)[:_MAX_TAG_CHARS])


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and not "\ud800" <= char <= "\udfff")


def domains_of(links: Iterable[str], text: str) -> list[str]:
    """The hosts of the post's links and of those in its text, each once, without `www.`."""
    found: dict[str, None] = {}
    for link in links:
        if (host := host_of(link)) is not None:
            found[host] = None
        if len(found) >= MOST_DOMAINS:
            break
    if "://" in text:
        for link in _LINK.findall(text[:_MAX_TEXT_CHARS])[:MOST_DOMAINS]:
            if (host := host_of(link)) is not None:
                found[host] = None
    return list(found)[:MOST_DOMAINS]


def host_of(link: str) -> str | None:
    """The host of a link, in lower case without `www.`; None where there is none."""
    try:
        host = urlsplit(link[:2_000] if "://" in link else f"//{link[:2_000]}").hostname
    except ValueError:
        return None
    host = (host or "").rstrip(".").removeprefix("www.")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    if len(host) > _MAX_DOMAIN_CHARS or not _HOST.fullmatch(host):
        return None
    return _intern(host)
