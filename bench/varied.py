"""Labels as varied as a stream's: many authors, words, tags, links and languages, a few of them often.

The tests' labels have a dozen languages, 40 authors and 30 texts; what a page costs depends on how
many different ones there are. Deterministic for a seed; words and names are made of syllables.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from dashboard.languages import LANGUAGES
from tests.dashboard.label_feed import Made

AUTHORS: Final = 150_000
WORDS: Final = 30_000
TAGS: Final = 2_000
DOMAINS: Final = 1_000
_SYLLABLES: Final = [a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou")]
#: How uneven: of n things, the one at n * u ** _SKEW for an even u.
_SKEW: Final = 4


def varied(made: Iterable[Made], seed: int = 11) -> Iterator[Made]:
    """Each label with an author, and a post with words, tags and links of its own."""
    rng = random.Random(seed)
    languages = list(LANGUAGES)
    for each in made:
        label = each.label
        assert label.post is not None
        text = " ".join([label.post.text or "", *(_word(_one_of(WORDS, rng)) for _ in range(8))])
        if rng.random() < 0.2:
            text += f" #{_word(_one_of(TAGS, rng))}"
        if rng.random() < 0.1:
            text += f" https://{_word(_one_of(DOMAINS, rng))}.example/{rng.randrange(10**6)}"
        post = msgspec.structs.replace(
            label.post, text=text, author=f"{_word(author := _one_of(AUTHORS, rng))}{author}"
        )
        labels = label.labels
        if rng.random() < 0.15:
            answer = msgspec.structs.replace(
                labels["language"], label=languages[_one_of(len(languages), rng)]
            )
            labels = labels | {"language": answer}
        yield Made(each.partition, msgspec.structs.replace(label, post=post, labels=labels))


def _one_of(count: int, rng: random.Random) -> int:
    return int(count * rng.random() ** _SKEW)


def _word(number: int) -> str:
    word, number = "", number + len(_SYLLABLES)
    while number:
        number, syllable = divmod(number, len(_SYLLABLES))
        word += _SYLLABLES[syllable]
    return word
