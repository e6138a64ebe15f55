"""An explanation shows the parts of a condition, each with its value, and never another verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.policy.explanation import Part, explain, part_of
from stream.policy.history import NO_HISTORY
from tests.stream.policy.records import policy, rule, rules, subject


def lines(part: Part, depth: int = 0) -> list[str]:
    value = part.error or part.value
    own = f"{'  ' * depth}{part.source} = {value}"
    return [own, *(line for piece in part.parts for line in lines(piece, depth + 1))]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (
            'toxicity.toxic >= 0.5 && (sentiment.label == "negative" || !toxicity.unsupported)',
            [
                'toxicity.toxic >= 0.5 && (sentiment.label == "negative" || !toxicity.unsupported) = True',
                "  toxicity.toxic >= 0.5 = True",
                "    toxicity.toxic = 0.7",
                '  (sentiment.label == "negative" || !toxicity.unsupported) = True',
                '    sentiment.label == "negative" = False',
                "      sentiment.label = neutral",
                "    !toxicity.unsupported = True",
                "      toxicity.unsupported = False",
            ],
        ),
        (
            'regex("a && b [(]c") || post.tags.exists(t, t == "x" || t == "y")',
            [
                'regex("a && b [(]c") || post.tags.exists(t, t == "x" || t == "y") = False',
                '  regex("a && b [(]c") = False',
                '  post.tags.exists(t, t == "x" || t == "y") = False',
            ],
        ),
        ("post.chars in [1, 5] ? true : false", [
            "post.chars in [1, 5] ? true : false = True",
            "  post.chars in [1, 5] = True",
            "    post.chars = 5",
        ]),
        ("author.followers > 3 || post.tags[0] == 'x'", [
            "author.followers > 3 || post.tags[0] == 'x' = the post has no `author.followers`",
            "  author.followers > 3 = the post has no `author.followers`",
            "    author.followers = the post has no `author.followers`",
            "  post.tags[0] == 'x' = [0] of a list of 0",
            "    post.tags[0] = [0] of a list of 0",
        ]),
    ],
)  # fmt: skip
def test_parts_and_their_values(tmp_path: Path, when: str, expected: list[str]) -> None:
    p = policy(tmp_path, rules(rule(when)))
    one = subject(toxicity={"toxic": 0.7})
    _, _, facts = p.begin(one, NO_HISTORY)
    assert lines(part_of(p, when, facts)) == expected


def test_what_was_not_asked_says_why(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule("true", name="off", mode="off"),
            rule("true", name="german", languages=["de"]),
            rule("true", name="old", expires="2020-01-01"),
            rule("post.tags[0] == 'x'", name="fails"),
            rule("author.followers > 3", name="unknown"),
        ),
    )
    explanation = explain(p, subject())
    assert explanation.verdict == p.evaluate(subject())
    by_id = {each.id: each for each in explanation.rules}
    assert {name: each.skipped for name, each in by_id.items() if each.skipped} == {
        "off": "the rule is off",
        "german": "the rule is not for `en`",
        "old": "the rule has expired",
    }
    assert by_id["fails"].failed == "[0] of a list of 0"
    assert not by_id["unknown"].matched
