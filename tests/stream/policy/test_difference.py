"""What changed between two policies, and what changed without saying so."""

from __future__ import annotations

from pathlib import Path

from stream.policy.difference import difference
from tests.stream.policy.records import policy, rule, rules

OLD = "lists: {bad: {words: [muppet, clown]}, gone: {domains: [a.org]}}\n" + rules(
    rule("toxicity.toxic > 0.5", name="silent"),
    rule("toxicity.toxic > 0.5", name="raised"),
    rule("true", name="same"),
    rule("true", name="removed"),
)
NEW = "quota: 5\nlists: {bad: {words: [muppet, dolt], allow: [dolt tower]}}\n" + rules(
    rule("true", name="same"),
    rule("toxicity.toxic > 0.6", name="silent", languages=["en", "de"]),
    rule("toxicity.toxic > 0.6", name="raised", version=2),
    rule("true", name="added", mode="shadow"),
)


def test_every_change_is_named(tmp_path: Path) -> None:
    changes = difference(policy(tmp_path, OLD), policy(tmp_path, NEW))
    assert [(c.kind, c.what, c.id, c.silent) for c in changes] == [
        ("added", "rule", "added", False),
        ("changed", "rule", "raised", False),
        ("removed", "rule", "removed", False),
        ("changed", "rule", "silent", True),
        ("changed", "list", "bad", False),
        ("removed", "list", "gone", False),
        ("changed", "policy", "quota", False),
    ]
    silent = next(c for c in changes if c.id == "silent")
    assert [(f.field, f.old, f.new) for f in silent.fields] == [
        ("when", "toxicity.toxic > 0.5", "toxicity.toxic > 0.6"),
        ("languages", None, "en, de"),
    ]
    bad = next(c for c in changes if c.id == "bad")
    assert [(f.old, f.new) for f in bad.fields] == [
        ("clown", None),
        (None, "allow: dolt tower"),
        (None, "dolt"),
    ]


def test_no_change_is_no_change(tmp_path: Path) -> None:
    assert difference(policy(tmp_path, OLD), policy(tmp_path, f"# moved\n{OLD}")) == []
