"""docs/policy.md says what there is: every key, name, function and reason, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.errors import PolicyError
from stream.policy import load_policy
from stream.policy.conditions import MEASURES
from stream.policy.expectations import EXPECTED_KEYS, GIVEN_KEYS, check_expectation
from stream.policy.load import load
from stream.policy.reading import FUNCTIONS
from stream.policy.reasons import REASONS
from stream.policy.rule_file import FILE_KEYS, LIST_KEYS, RULE_KEYS, SAFELIST_KEYS
from stream.policy.vocabulary import KEY_NAMES, POST_NAMES

DOCS = Path(__file__).parents[3] / "docs" / "policy.md"
TEXT = DOCS.read_text("utf-8")
NAMES = [name.name for name in POST_NAMES]
FIRST_CELLS = "\n".join(re.findall(r"^\| (.*?) \|", TEXT, re.MULTILINE))


@pytest.mark.parametrize(
    "name",
    [*FILE_KEYS, *RULE_KEYS, *KEY_NAMES, *NAMES, *REASONS, *GIVEN_KEYS, *EXPECTED_KEYS],
)
def test_every_name_is_documented(name: str) -> None:
    assert f"`{name}`" in FIRST_CELLS


def test_every_function_and_list_key_is_documented() -> None:
    for name in FUNCTIONS:
        assert f"`{name}(" in FIRST_CELLS
    assert set(FUNCTIONS) >= MEASURES
    for name in LIST_KEYS:
        assert re.search(rf"^    {name}:", TEXT, re.MULTILINE)
    for name in SAFELIST_KEYS:
        assert f"`{name}`" in TEXT


def test_the_first_rule_passes_its_own_test(tmp_path: Path) -> None:
    example = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]
    path = tmp_path / "policy.yaml"
    path.write_text(example, "utf-8")
    loaded = load(path)
    (test,) = loaded.tests
    assert test.labels is not None
    assert check_expectation(loaded.policy, test, test.labels).problems == []


def test_the_mistake_that_is_shown_is_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[0]
    shown = re.findall(r"```\n(policy\.yaml:.*?)\n```", TEXT, re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(example.replace("toxicity.toxic ", "toxicity.toxick "), "utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("policy.yaml"))
    assert caught.value.rendered == shown
