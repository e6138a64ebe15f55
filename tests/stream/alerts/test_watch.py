"""A changed file of alert rules is picked up, all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.alerts.watch import RulesWatch
from stream.errors import ConfigError

ONE = "rules: [{id: a, kind: threshold, measure: posts, over: 5}]\n"
TWO = "rules: [{id: b, kind: threshold, measure: posts, over: 5}]\n"


def ids(watch: RulesWatch) -> list[str]:
    return [rule.id for rule in watch.rules.rules]


def test_a_changed_file_is_picked_up_and_one_with_a_mistake_is_not(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(ONE)
    watch = RulesWatch(path, reload_s=1e-9)
    assert not watch.poll()
    path.write_text(TWO)
    assert watch.poll()
    assert ids(watch) == ["b"]
    path.write_text(ONE.replace("over", "ovr"))
    assert not watch.poll()
    assert ids(watch) == ["b"], "the rules before stay in force"
    assert "a threshold rule has no `ovr`" in str(watch.error)
    told = watch.error
    assert not watch.poll()
    assert watch.error is told, "the same mistake is one error, to be logged once"
    path.unlink()
    assert not watch.poll()
    assert "no such file" in str(watch.error)
    path.write_text(TWO)
    assert not watch.poll(), "put back, it is what is in force"
    assert _error(watch) is None
    path.write_text(f"# a comment\n{TWO}")
    assert not watch.poll()


def _error(watch: RulesWatch) -> Exception | None:
    return watch.error


def test_the_usual_file_may_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watch = RulesWatch(reload_s=1e-9)
    starter = ids(watch)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "alerts.yaml").write_text(ONE)
    assert watch.poll()
    assert ids(watch) == ["a"]
    (tmp_path / "config" / "alerts.yaml").unlink()
    assert watch.poll()
    assert ids(watch) == starter


def test_there_must_be_rules_to_begin_with_and_between_looks_no_file_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "alerts.yaml"
    with pytest.raises(ConfigError, match="cannot read the alert rules"):
        RulesWatch(path)
    path.write_text(ONE)
    watch = RulesWatch(path, reload_s=3600)
    path.write_text(TWO)
    assert not watch.poll()
    assert ids(watch) == ["a"]
