"""`tidegate policy`, as it is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream.records import encode
from tests.conftest import RunTidegate
from tests.stream.policy.records import label, rule, rules

RULES = (
    "name: mine\nlists: {bad: {words: [muppet]}}\n"
    + rules(
        rule('words("bad") && toxicity.toxic >= 0.5', name="word", action="hide", quota=5),
        rule("post.chars > 1000", name="long", mode="shadow"),
    )
    + "tests:\n"
)
PASSES = "  - {text: you muppet, labels: {toxicity: {toxic: 0.9}}, action: hide, rules: [word]}\n"
FAILS = "  - {name: too mild, text: you muppet, labels: {toxicity: {toxic: 0.2}}, action: hide}\n"
SCORED = "  - {text: The weather is lovely today., action: allow}\n"


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(RULES + PASSES, "utf-8")
    return path


def test_check_says_what_is_in_force(run_tidegate: RunTidegate, rule_file: Path) -> None:
    done = run_tidegate("policy", "check", "--policy", str(rule_file))
    assert done.returncode == 0, done.stderr
    assert "2 rules, 1 tests, version mine@" in done.stdout
    result = json.loads(
        run_tidegate("policy", "check", "--policy", str(rule_file), "--json").stdout
    )
    assert (result["ok"], [r["id"] for r in result["rules"]]) == (True, ["word", "long"])


def test_check_shows_every_mistake_with_its_line(
    run_tidegate: RunTidegate, rule_file: Path
) -> None:
    text = RULES.replace("toxicity.toxic", "toxicity.toxik").replace("hide", "hyde")
    rule_file.write_text(text, "utf-8")
    done = run_tidegate("policy", "check", "--policy", str(rule_file))
    assert done.returncode == 1
    assert f"{rule_file}:4:" in done.stderr
    assert "did you mean `toxicity.toxic`?" in done.stderr
    assert "did you mean `hide`?" in done.stderr
    assert "error: 2 mistakes in" in done.stderr
    done = run_tidegate("policy", "check", "--policy", str(rule_file), "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["ok"]) == (1, False)
    assert [m["line"] for m in result["mistakes"]] == [4, 4]


def test_the_setting_names_the_rules(run_tidegate: RunTidegate, rule_file: Path) -> None:
    done = run_tidegate("policy", "check", "--json", env={"TIDEGATE_POLICY__PATH": str(rule_file)})
    assert json.loads(done.stdout)["version"].startswith("mine@")


def test_test_runs_what_stands_beside_the_rules(run_tidegate: RunTidegate, rule_file: Path) -> None:
    command = ("policy", "test", "--policy", str(rule_file))
    done = run_tidegate(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 passed, 0 failed", "no test names: long"]
    rule_file.write_text(RULES + PASSES + FAILS + SCORED, "utf-8")
    done = run_tidegate(*command)
    assert done.returncode == 1
    assert f"{rule_file}:8: too mild" in done.stdout
    assert "action is `allow`, not `hide`" in done.stdout
    assert "2 passed, 1 failed, 1 scored by tidegate/compact" in done.stdout
    done = run_tidegate(*command, "--json", "--no-model")
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert (result["passed"], result["failed"], result["skipped"]) == (1, 1, 1)
    assert [t["scored_by"] for t in result["tests"]] == ["given", "given"]


def test_explain_shows_rules_parts_and_spans(
    run_tidegate: RunTidegate, rule_file: Path, tmp_path: Path
) -> None:
    record = encode(label("😀 you m u p p e t", toxicity={"toxic": 0.75}))
    labels = tmp_path / "labels.jsonl"
    labels.write_bytes(record.replace(b'"p1"', b'"p0"') + b"\n\n" + record + b"\n")
    command = ("policy", "explain", "--policy", str(rule_file), "--label", str(labels))
    done = run_tidegate(*command, "--post", "p1", "--all")
    assert done.returncode == 0, done.stderr
    assert "hide  medium, other, by rule word" in done.stdout
    assert "toxicity.toxic  = 0.75" in done.stdout
    assert "6-17  'm u p p e t'  bad: muppet" in done.stdout
    assert "post.chars  = 17" in done.stdout
    result = json.loads(run_tidegate(*command, "--json").stdout)
    assert result["label"]["post_id"] == "p0"
    (match,) = result["matches"]
    assert match["spans"][0] == {
        "start": 6, "end": 17, "utf16_start": 7, "utf16_end": 18, "what": "bad: muppet",
    }  # fmt: skip
    assert result["rules"][0]["condition"]["parts"][1]["value"] is True


def test_explain_scores_a_text(run_tidegate: RunTidegate, rule_file: Path) -> None:
    command = ("policy", "explain", "--policy", str(rule_file), "--json")
    text = "What an idiot you are, you stupid muppet."
    result = json.loads(run_tidegate(*command, text).stdout)
    assert result["label"]["labels"]["toxicity"]["scores"]["toxic"] > 0.5
    assert result["action"] == "hide"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either a text or --label"),
        (("--label", "none.jsonl"), "cannot read `none.jsonl`"),
        (("--label", "bad.jsonl"), "bad.jsonl:1: not a label record"),
        (("--label", "good.jsonl", "--post", "p9"), "there is no label of `p9`"),
    ],
)
def test_explain_says_what_it_needs(
    run_tidegate: RunTidegate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text('{"a": 1}\n')
    Path("good.jsonl").write_bytes(encode(label()))
    done = run_tidegate("policy", "explain", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_diff_names_what_changed(
    run_tidegate: RunTidegate, rule_file: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(RULES.replace("0.5", "0.6").replace("[muppet]", "[muppet, dolt]"), "utf-8")
    done = run_tidegate("policy", "diff", str(rule_file), str(new))
    assert done.returncode == 0, done.stderr
    assert "~ rule word" in done.stdout
    assert "its version is the same: raise it" in done.stdout
    assert "+ entry: dolt" in done.stdout
    result = json.loads(run_tidegate("policy", "diff", str(rule_file), str(new), "--json").stdout)
    assert [c["id"] for c in result["changes"]] == ["word", "bad"]
    same = run_tidegate("policy", "diff", str(rule_file), str(rule_file))
    assert "no change that matters to a decision" in same.stdout
