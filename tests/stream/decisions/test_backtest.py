"""A backtest against what the pipeline decides live, in parts and with people's verdicts."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from stream.decisions.backtest import Backtest, Tally
from stream.decisions.parts import run_backtest
from stream.decisions.stored import RecordFile, chunks_of
from stream.outcomes import Action, Review
from stream.policy import Policy
from stream.records import Label, encode
from tests.conftest import RunTidegate
from tests.stream.decisions.labels import Topics, deciding_over, label_of, policy_of

OLD = """
name: old
rules:
  - {id: insult, when: toxicity.insult >= 0.8, action: hide, severity: high, reason: harassment-other}
  - {id: chatty, when: 'count(author, "20s") >= 5', action: flag, severity: low, reason: misleading-spam}
  - {id: wave, when: 'distinct_authors(tag, "30s") >= 3', action: limit, severity: low, reason: misleading-spam, mode: shadow}
  - {id: again, when: 'actions(author, "1m") >= 3', action: review, severity: low, reason: misleading-spam}
  - {id: gone, when: toxicity.insult >= 0.95, action: flag, severity: low, reason: harassment-other}
"""
NEW = OLD.replace("0.8", "0.6").replace(
    "  - {id: gone, when: toxicity.insult >= 0.95, action: flag, severity: low, reason: harassment-other}\n",
    "",
)


def labels(count: int) -> list[Label]:
    return [
        label_of(
            number,
            author=f"a{number % 7}",
            tags=["x"] if number % 5 == 0 else [],
            insult=(number * 37 % 100) / 100,
            text=f"post {number}",
        )
        for number in range(count)
    ]


def folder_of(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    policy_of(folder, text)
    return folder / "policy.yaml"


def live(policy: Policy, made: list[Label]) -> tuple[Counter[str], Counter[str]]:
    """Matches by rule, and actions, of the pipeline itself."""
    topics = Topics()
    for label in made:
        topics.put_label(label)
    deciding = deciding_over(topics, policy)
    topics.deliver(deciding.run([topics.span("labels", 0, 0, len(made))]).outputs)
    rules = Counter(match.id for decision in topics.decisions for match in decision.rules)
    return rules, Counter(str(decision.action) for decision in topics.decisions)


@pytest.mark.parametrize(("new", "old"), [(NEW, OLD), (OLD, NEW), (OLD, OLD)])
def test_it_gives_what_a_live_run_gives(tmp_path: Path, new: str, old: str) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    try_, against = policy_of(tmp_path / "new", new), policy_of(tmp_path / "old", old)
    made = labels(300)
    backtest = Backtest(try_, against)
    for label in made:
        backtest.take(label)
    tally = backtest.tally
    rules, _ = live(try_, made)
    assert {n: r.matches for n, r in tally.rules.items() if r.matches} == dict(rules)
    rules, _ = live(against, made)
    assert {n: r.before for n, r in tally.rules.items() if r.before} == dict(rules)
    if new == old:
        assert not tally.changes
    else:
        assert sum(change.posts for change in tally.changes.values()) > 0


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    new, old = policy_of(tmp_path / "new", NEW), policy_of(tmp_path / "old", OLD)
    made = labels(300)
    judged = {"p0-3": Action.ALLOW, "p0-8": Action.HIDE}
    whole = Backtest(new, old, judged)
    parts = [Backtest(new, old, judged, part=part, parts=3) for part in range(3)]
    total = Tally()
    for each in (whole, *parts):
        for label in made:
            each.take(label)
    for part in parts:
        assert part.tally.labels
        total.add(part.tally)
    assert total == whole.tally


def test_it_counts_gained_lost_and_what_people_said(tmp_path: Path) -> None:
    new = folder_of(tmp_path, "new", NEW)
    old = folder_of(tmp_path, "old", OLD)
    made = [label_of(n, author=f"a{n}", insult=i) for n, i in enumerate((0.7, 0.7, 0.97, 0.1))]
    made.append(label_of(9, retracted=True))
    values = [*map(encode, made), b"{"]
    judged = {"p0-0": Action.ALLOW, "p0-2": Action.REMOVE, "elsewhere": Action.HIDE}
    tally = run_backtest([values], new, old, judged, processes=1)
    assert (tally.labels, tally.retracted, tally.bad, tally.judged) == (4, 1, 1, 2)
    insult = tally.rules["insult"]
    assert (insult.matches, insult.before, insult.gained, insult.lost) == (3, 1, 2, 0)
    assert (insult.judged, insult.gained_judged) == ({"allow": 1, "remove": 1}, {"allow": 1})
    gone = tally.rules["gone"]
    assert (gone.matches, gone.before, gone.lost, gone.lost_judged) == (0, 1, 1, {"remove": 1})
    change = tally.changes["allow>hide"]
    assert (change.posts, change.judged) == (2, {"allow": 1})
    assert {sample.post_id for sample in change.samples} == {"p0-0", "p0-1"}


def test_the_command_reads_files_and_uses_every_core(
    tmp_path: Path, run_tidegate: RunTidegate
) -> None:
    new = folder_of(tmp_path, "new", NEW)
    old = folder_of(tmp_path, "old", OLD)
    made = labels(200)
    with gzip.open(tmp_path / "labels.jsonl.gz", "wb") as file:
        file.writelines(encode(label) + b"\n" for label in made)
    review = Review(
        schema="tidegate.review.v1",
        review_id="r1",
        post_id="p0-2",
        reviewer="owl",
        at="2026-11-22T12:00:00.000Z",
        action=Action.ALLOW,
    )
    (tmp_path / "reviews.jsonl").write_bytes(encode(review) + b"\n")
    arguments = ["policy", "backtest", "--policy", str(new), "--against", str(old)]
    arguments += ["--labels", "labels.jsonl.gz", "--reviews", "reviews.jsonl"]
    done = run_tidegate(*arguments, "--processes", "2", "--json", timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nor a semaphore left behind"
    result = json.loads(done.stdout)
    alone = run_backtest(
        chunks_of(RecordFile(tmp_path / "labels.jsonl.gz").values(), 64),
        new,
        old,
        {"p0-2": Action.ALLOW},
        processes=1,
    )
    assert result["labels"] == 200
    assert {r["rule"]: r["matches"] for r in result["rules"]} == {
        name: rule.matches for name, rule in alone.rules.items()
    }
    (insult,) = [rule for rule in result["rules"] if rule["rule"] == "insult"]
    assert insult["judged"] == {"allow": 1}
    assert insult["precision"] == 0.0
    assert result["changed"] == sum(change["posts"] for change in result["changes"])

    shown = run_tidegate(*arguments, "--processes", "1", timeout_s=120)
    assert shown.returncode == 0, shown.stderr
    assert "insult" in shown.stdout
    assert "200 labels" in shown.stdout
    assert "labels/s" in shown.stderr


def test_what_is_wrong_is_said(tmp_path: Path, run_tidegate: RunTidegate) -> None:
    new = folder_of(tmp_path, "new", NEW)
    done = run_tidegate("policy", "backtest", "--policy", str(new))
    assert done.returncode == 2
    assert "name either --since TIME or --labels FILE" in done.stderr
    done = run_tidegate("policy", "backtest", "--policy", str(new), "--labels", "nowhere.jsonl")
    assert done.returncode == 1
    assert "nowhere.jsonl: the file cannot be read: no such file" in done.stderr
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 50_000)[:-20])
    done = run_tidegate(
        "policy", "backtest", "--policy", str(new), "--labels", "cut.jsonl.gz", "--processes", "1"
    )
    assert done.returncode == 1
    assert "cut.jsonl.gz: the file cannot be read" in done.stderr
