"""Tags and words that were not there before and have enough authors.

For a tag the authors are counted (its own sketch). For a word they are bounded from below: of P
posts by A authors, n with the word, at least n - (P - A) different authors wrote it. One person
who repeats a word is therefore never a new term.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from stream.aggregates.merge import ALL, OTHER, Window
from stream.alerts.reading import Reading
from stream.alerts.rules import NewTermRule
from stream.alerts.store import Store
from stream.alerts.threshold import present, span

#: Terms that are remembered, the ones seen last; a word list of a language has no more.
_MOST_TERMS: Final = 50_000
#: A term is new for so many of the rule's windows after it first came.
_NEW_WINDOWS: Final = 6
_MOST_RANKED: Final = 100


class Known(msgspec.Struct, array_like=True):
    """When a term was seen first and last."""

    first: int
    last: int


def new_term_readings(
    rule: NewTermRule,
    windows: Store,
    tick: int,
    active: Iterable[str],
    *,
    known: dict[str, Known],
    began: int,
) -> dict[str, Reading]:
    """Every term of the span that is new, or in an episode.

    Args:
        rule: the rule.
        windows: the metrics.
        tick: the end of the window that is looked at.
        active: terms in an episode.
        known: what was seen; brought up to `tick` here.
        began: since when anybody looks.
    """
    seen = _tags(rule, windows, tick) if rule.of == "tag" else _terms(rule, windows, tick)
    for term in seen:
        since = known.get(term)
        if since is None or tick - since.last > rule.memory_s:
            known[term] = Known(tick, tick)
        else:
            since.last = tick
    _forget(rule, known, tick)
    learnt = tick - began >= rule.history_s
    readings = {}
    for term in {*seen, *active}:
        authors, posts = seen.get(term, (0, 0))
        born = known[term].first if term in known else tick
        new = learnt and began + rule.history_s <= born > tick - _NEW_WINDOWS * rule.window_s
        enough = authors >= rule.min_authors
        if not new and term not in active:
            continue
        readings[term] = Reading(
            breach=new and enough,
            # Half the bound: a term that hovers around it is one episode.
            clear=authors * 2 < rule.min_authors,
            observed=float(authors),
            expected=0.0,
            threshold=float(rule.min_authors),
            posts=posts,
            authors=authors,
            strength=float(authors),
            terms=(term,),
            window=_window(rule, windows, tick, term),
        )
    return readings


def _window(rule: NewTermRule, windows: Store, tick: int, term: str) -> Window | None:
    group = term if rule.of == "tag" else ALL
    return span(rule, windows, group, tick)


def _tags(rule: NewTermRule, windows: Store, tick: int) -> dict[str, tuple[int, int]]:
    found = {}
    for group in present(rule, windows, tick):
        window = span(rule, windows, group, tick)
        if window is None or not window.posts or group == OTHER:
            continue
        # As many posts as authors at most: below the bound nobody asks for the sketch.
        few = window.posts * 2 < rule.min_authors
        found[group] = (window.posts if few else window.authors.estimate, window.posts)
    return found


def _terms(rule: NewTermRule, windows: Store, tick: int) -> dict[str, tuple[int, int]]:
    window = span(rule, windows, ALL, tick)
    if window is None:
        return {}
    repeats = max(0, window.posts - window.authors.estimate)
    return {
        term: (max(0, at_least - repeats), count)
        for term, count, at_least, _ in window.top_terms(_MOST_RANKED)
        if rule.concerns(term)
    }


def _forget(rule: NewTermRule, known: dict[str, Known], tick: int) -> None:
    if len(known) <= _MOST_TERMS:
        return
    ranked = sorted(known.items(), key=lambda item: (item[1].last, item[0]))
    for term, since in ranked[: len(known) - _MOST_TERMS * 9 // 10]:
        if since.last < tick:
            del known[term]
    for term, since in ranked:
        if tick - since.last > rule.memory_s:
            known.pop(term, None)
