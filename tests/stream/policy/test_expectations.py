"""Tests beside the rules: what they give, what they expect, what they say when they fail."""

from __future__ import annotations

from pathlib import Path

from stream.policy.expectations import Outcome, check_expectation, shown_history
from stream.policy.load import Loaded, load
from tests.stream.policy.records import rule, rules

RULES = "lists: {bad: {words: [muppet]}}\n" + rules(
    rule("toxicity.threat >= 0.5", name="threat", action="hide", severity="high", reason="violence-threats"),
    rule('words("bad")', name="word"),
    rule('count(tag, "5m") > 3', name="many", mode="shadow"),
    rule("post.links[0] == 'x'", name="fails", languages=["nl"]),
)  # fmt: skip


def loaded(folder: Path, tests: str) -> Loaded:
    path = folder / "policy.yaml"
    path.write_text(f"{RULES}tests:\n{tests}", "utf-8")
    return load(path)


def outcome(folder: Path, test: str) -> Outcome:
    made = loaded(folder, test)
    (one,) = made.tests
    assert one.labels is not None
    return check_expectation(made.policy, one, one.labels)


def test_one_that_passes(tmp_path: Path) -> None:
    result = outcome(
        tmp_path,
        "  - name: all of it\n"
        "    text: you muppet\n"
        "    tags: [a]\n"
        "    labels: {toxicity: {threat: 0.7}}\n"
        "    history:\n"
        "      count(tag, 5m): 4\n"
        "    action: hide\n"
        "    severity: high\n"
        "    reason: violence-threats\n"
        "    rules: [threat, word]\n"
        "    shadow: [many]\n",
    )
    assert (result.passed, result.problems, result.scored_by) == (True, [], "given")
    assert result.matched == ["threat", "word", "many"]


def test_one_that_fails_says_how(tmp_path: Path) -> None:
    result = outcome(
        tmp_path,
        "  - text: you muppet\n    labels: {}\n    action: hide\n    severity: low\n"
        "    rules: [threat]\n    shadow: [many]\n",
    )
    assert not result.passed
    assert result.problems == [
        "action is `flag`, not `hide`",
        "severity is `medium`, not `low`",
        "live rule `threat` did not match",
        "live rule `word` matched too",
        "shadow rule `many` did not match",
    ]
    assert result.where.endswith("policy.yaml:8")
    assert result.labels["sentiment"].label == "neutral"


def test_a_rule_that_fails_fails_the_test(tmp_path: Path) -> None:
    result = outcome(tmp_path, "  - {text: hallo, labels: {language: nl}, action: allow}\n")
    assert result.problems == ["rule `fails` failed: [0] of a list of 0"]


def test_labels_that_are_left_out_are_harmless_and_english(tmp_path: Path) -> None:
    made = loaded(tmp_path, "  - {text: x, labels: {sentiment: {negative: 0.7}}, unsupported: [toxicity], action: allow}\n")  # fmt: skip
    (one,) = made.tests
    assert one.labels is not None
    toxicity, sentiment, language = (one.labels[t] for t in ("toxicity", "sentiment", "language"))
    assert (toxicity.label, toxicity.score, toxicity.unsupported) == ("none", 0.0, True)
    assert (sentiment.label, sentiment.score, sentiment.scores["positive"]) == (
        "negative",
        0.7,
        0.0,
    )
    assert language.label == "en"


def test_a_score_over_the_models_threshold_is_its_label(tmp_path: Path) -> None:
    made = loaded(tmp_path, "  - {text: x, labels: {toxicity: {threat: 0.2, severe_toxic: 0.3, insult: 0.3}}, action: allow}\n")  # fmt: skip
    (one,) = made.tests
    assert one.labels is not None
    assert one.labels["toxicity"].label == "severe_toxic"


def test_a_test_with_nothing_but_a_text_needs_the_model(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, "  - {text: hello, action: allow}\n").tests
    assert one.labels is None
    assert one.name == "hello"


def test_counts_are_shown_as_they_are_written(tmp_path: Path) -> None:
    test = "  - text: x\n    action: allow\n    history:\n      count(tag, 300s): 4\n      'actions(author, \"48h\")': 1\n"
    (one,) = loaded(tmp_path, test).tests
    assert shown_history(one.history) == ['actions(author, "2d"): 1', 'count(tag, "5m"): 4']
