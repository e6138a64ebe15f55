"""The starter pack: sensible rules, each with a test, and the demo's wave of abuse trips them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from models.scorer import load_scorer
from stream.demo.feed import shipped_source
from stream.labelling import label_of, model_refs
from stream.policy import Subject, load_policy, policy_path
from stream.policy.expectations import check_expectation
from stream.policy.load import load
from stream.sources.files import PostLine

STARTER = Path(__file__).parents[3] / "config" / "policy.yaml"


def test_the_pack_is_found_in_a_checkout_and_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_policy().version == load_policy(STARTER).version
    assert policy_path(Path("mine.yaml")) == Path("mine.yaml")
    local = Path("config") / "policy.yaml"
    local.parent.mkdir()
    local.write_text("name: mine\nrules: []\n")
    assert load_policy().version.startswith("mine@")


def test_every_rule_is_described_and_tested() -> None:
    loaded = load(STARTER)
    assert 10 <= len(loaded.policy.rules) <= 30
    named = {rule for t in loaded.tests for rule in (*(t.rules or ()), *(t.shadow or ()))}
    for rule in loaded.policy.rules:
        assert rule.description, rule.id
        assert rule.id in named, f"no test of the starter pack expects `{rule.id}`"
        if rule.action in ("limit", "hide", "remove"):
            assert rule.quota is not None, (
                f"`{rule.id}` takes posts from their readers without a quota"
            )
    assert any(rule.mode == "shadow" for rule in loaded.policy.rules)
    assert loaded.policy.windows


def test_its_tests_with_given_labels_pass() -> None:
    loaded = load(STARTER)
    given = [test for test in loaded.tests if test.labels is not None]
    assert len(given) >= 20
    for test in given:
        assert test.labels is not None
        outcome = check_expectation(loaded.policy, test, test.labels)
        assert outcome.passed, (outcome.name, outcome.problems)


def test_thresholds_that_are_the_models_are_the_models() -> None:
    """Numbers in the pack that say they are a threshold of the manifest follow it."""
    from stream.policy.vocabulary import bundled_tasks

    thresholds = {t.name: t.thresholds for t in bundled_tasks()}["toxicity"]
    rules = {rule.id: rule.when for rule in load(STARTER).policy.rules}
    for rule, head in (("insult", "insult"), ("obscene", "obscene")):
        found = re.search(rf"toxicity\.{head} >= ([\d.]+)", rules[rule])
        assert found is not None
        assert float(found[1]) == pytest.approx(thresholds[head])


def test_the_demos_wave_of_abuse_trips_live_rules() -> None:
    scorer = load_scorer(None, "compact")
    refs = model_refs(scorer.models)
    posts = [line.post for line in shipped_source() if isinstance(line, PostLine)]
    policy = load_policy(STARTER)
    strong: Counter[bool] = Counter()
    rules: Counter[str] = Counter()
    for post, scores in zip(posts, scorer.score([p.text or "" for p in posts]), strict=True):
        in_wave = 58 <= float(post.meta["offset_s"]) <= 86
        label = label_of(post, scores, refs, labelled_at_ms=1_767_268_800_000)
        verdict = policy.evaluate(Subject.of_label(label))
        assert verdict.failed == ()
        strong[in_wave] += verdict.action in ("limit", "hide", "remove")
        rules.update(match.id for match in verdict.live)
    assert strong[True] >= 8
    assert strong[False] <= 2
    assert rules["abuse"] >= 8
    assert rules["threat-words"] >= 2
