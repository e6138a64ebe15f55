"""Changes to a policy's text touch what they say and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.policy_text import (
    comparisons,
    rule_block,
    value_of,
    with_key,
    with_raised_version,
    with_threshold,
)
from stream.errors import ConfigError
from stream.policy import load_policy
from stream.policy.load import load, policy_path

TEXT = policy_path().read_text("utf-8")
RULES = [rule.id for rule in load_policy().rules]


def loaded(text: str) -> dict[str, object]:
    path = policy_path()
    return {rule.id: rule for rule in load(path, edited={path: text}).policy.rules}


@pytest.mark.parametrize("rule", RULES)
def test_a_block_is_one_rule(rule: str) -> None:
    begin, end = rule_block(TEXT, rule)
    block = TEXT[begin:end]
    assert block.count("id:") == 1
    assert "#" not in block.splitlines()[-1]
    assert not block.endswith("\n")


@settings(max_examples=15, deadline=None)
@given(rule=st.sampled_from(RULES), mode=st.sampled_from(["live", "shadow", "off"]))
def test_a_mode_changes_that_rule_alone(rule: str, mode: str) -> None:
    text = with_key(TEXT, rule, "mode", mode)
    assert with_key(text, rule, "mode", mode) == text
    assert value_of(text, rule, "mode") == mode
    before, after = loaded(TEXT), loaded(text)
    assert after[rule].mode == mode  # type: ignore[attr-defined]
    others = {name for name in before if _content(before[name]) != _content(after[name])}
    assert others <= {rule}


@settings(max_examples=15, deadline=None)
@given(
    first=st.integers(1, 99),
    steps=st.lists(
        st.tuples(st.integers(1, 99), st.sampled_from(["", "de", "fr", "en"])), max_size=4
    ),
)
def test_thresholds_by_language_are_the_last_that_were_set(
    first: int, steps: list[tuple[int, str]]
) -> None:
    text = with_threshold(TEXT, "insult", "toxicity.insult", first / 100)
    wanted = {"": first}
    for number, language in steps:
        text = with_threshold(text, "insult", "toxicity.insult", number / 100, language)
        wanted[language] = number
    when = loaded(text)["insult"].when  # type: ignore[attr-defined]
    for language, number in wanted.items():
        if language:
            assert f'language.label == "{language}" ? {_written(number)} :' in when
    assert comparisons(when, "toxicity.insult") == [(">=", wanted[""] / 100)]


def _written(number: int) -> str:
    text = f"{number / 100:.4f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _content(rule: object) -> tuple[object, ...]:
    return tuple(getattr(rule, name) for name in ("id", "when", "mode", "action", "version"))


def test_a_version_goes_up() -> None:
    once = with_raised_version(TEXT, "insult")
    assert value_of(once, "insult", "version") == "2"
    assert value_of(with_raised_version(once, "insult"), "insult", "version") == "3"
    named = with_key(TEXT, "insult", "version", "beta")
    assert value_of(with_raised_version(named, "insult"), "insult", "version") == "beta.1"


def test_what_cannot_be_changed_is_explained() -> None:
    with pytest.raises(ConfigError, match="is not in this file"):
        rule_block(TEXT, "never-there")
    with pytest.raises(ConfigError, match="does not compare it"):
        with_threshold(TEXT, "insult", "toxicity.threat", 0.5)
