"""Where in the text a match points: found again after a rule matched, never on the way there.

Invariant: `text[start:end]` in Python and the UTF-16 offsets name the same characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stream.outcomes import TextSpan
from stream.policy.reading import Reading, compiled_pattern, is_under
from stream.policy.subject import host_of

#: A rule that matches on every character is no help with more.
MOST_SPANS: Final = 32


@dataclass(frozen=True, slots=True)
class Site:
    """A call in a condition that points into the text: the function and what it looks for."""

    function: str
    wanted: str


def spans_of(sites: Sequence[Site], reading: Reading) -> list[TextSpan]:
    """The stretches of the post's text that the calls found, in the order of the text."""
    text = reading.subject.text
    found = sorted({place for site in sites for place in _places(site, reading)})
    return [_span(text, start, end, what) for start, end, what in found[:MOST_SPANS]]


def _places(site: Site, reading: Reading) -> Iterator[tuple[int, int, str]]:
    text = reading.subject.text
    match site.function:
        case "words" | "word_count" | "terms":
            for hit in reading.hits(site.wanted):
                yield hit.start, hit.end, f"{site.wanted}: {hit.term}"
        case "regex" | "matches":
            pattern = reading.lists.patterns.get(site.wanted) or compiled_pattern(site.wanted)
            for found in pattern.finditer(text):
                if found.end() > found.start():
                    yield found.start(), found.end(), "regex"
        case "links_to":
            domains = reading.lists.domains.get(site.wanted, frozenset((site.wanted.lower(),)))
            for link in reading.links():
                at = text.find(link)
                if at >= 0 and is_under(host_of(link) or "", domains):
                    yield at, at + len(link), f"links_to: {site.wanted}"
        case _:  # contains, startsWith, endsWith
            at = text.find(site.wanted)
            while site.wanted and at >= 0:
                yield at, at + len(site.wanted), "text"
                at = text.find(site.wanted, at + len(site.wanted))


def _span(text: str, start: int, end: int, what: str) -> TextSpan:
    before = utf16_length(text[:start])
    return TextSpan(
        start=start,
        end=end,
        utf16_start=before,
        utf16_end=before + utf16_length(text[start:end]),
        what=what,
    )


def utf16_length(text: Iterable[str]) -> int:
    """Code units, as browsers count."""
    return sum(2 if ord(char) > 0xFFFF else 1 for char in text)
