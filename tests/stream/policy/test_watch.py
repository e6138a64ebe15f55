"""A changed file is picked up, all or nothing; the policy before stays where there is a mistake."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stream.errors import PolicyError, TidegateError
from stream.policy import PolicyWatch
from tests.stream.policy.records import rule, rules

ONE = rules(rule("true"))
TWO = rules(rule("true"), rule("false", name="b"))
WRONG = rules(rule("true"), rule("wrong", name="b"))


def watch(path: Path) -> PolicyWatch:
    return PolicyWatch(path, reload_s=1e-9)


def watch_error(watched: PolicyWatch) -> TidegateError | None:
    return watched.error


def test_a_changed_file_is_picked_up(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    watched = watch(path)
    before = watched.policy
    assert not watched.poll()
    path.write_text(TWO)
    assert watched.poll()
    assert len(watched.policy.rules) == 2
    assert watched.policy.version != before.version
    assert len(before.rules) == 1, "who still holds the old policy keeps a whole one"
    assert not watched.poll()


def test_a_file_of_the_same_size_and_time_is_picked_up(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    at = path.stat().st_mtime_ns
    watched = watch(path)
    path.write_text(ONE.replace("flag", "hide"))
    os.utime(path, ns=(at, at))
    assert watched.poll()
    assert watched.policy.rules[0].action == "hide"


def test_a_mistake_leaves_the_old_policy_in_force(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    watched = watch(path)
    before = watched.policy
    path.write_text(WRONG)
    assert not watched.poll()
    assert watched.policy is before
    error = watched.error
    assert error is not None
    assert "unknown name `wrong`" in str(error)
    assert not watched.poll()
    assert watched.error is error, "the same mistake is one error, to be logged once"
    path.unlink()
    assert not watched.poll()
    assert "there is no file" in str(watched.error)
    path.write_text(TWO)
    assert watched.poll()
    assert watch_error(watched) is None
    assert len(watched.policy.rules) == 2


def test_a_file_that_is_put_back_ends_the_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    watched = watch(path)
    path.write_text(WRONG)
    watched.poll()
    path.write_text(ONE)
    watched.poll()
    assert watched.error is None


def test_files_of_a_folder_and_of_lists_are_watched(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lists: {bad: {file: bad.txt}}\n" + ONE)
    (tmp_path / "bad.txt").write_text("muppet\n")
    watched = watch(tmp_path)
    (tmp_path / "bad.txt").write_text("muppet\nclown\n")
    assert watched.poll()
    (tmp_path / "b.yaml").write_text(rules(rule('words("bad")', name="b")))
    assert watched.poll()
    assert [r.id for r in watched.policy.rules] == ["a", "b"]
    (tmp_path / "b.yaml").unlink()
    assert watched.poll()
    (tmp_path / "a.yaml").write_text("lists: {bad: {file: new.txt}}\n" + ONE)
    assert not watched.poll()
    (tmp_path / "new.txt").write_text("clown\n")
    assert watched.poll(), "what was missing is there now, although no known file changed"


def test_a_watch_needs_a_policy_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="there is no file"):
        watch(tmp_path / "policy.yaml")


def test_between_two_looks_no_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    watched = PolicyWatch(path, reload_s=3600)
    path.write_text(TWO)
    assert not watched.poll()
    assert len(watched.policy.rules) == 1


def test_many_threads_may_poll(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(ONE)
    watched = watch(path)
    path.write_text(TWO)
    changes: list[bool] = []
    threads = [threading.Thread(target=lambda: changes.append(watched.poll())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watched.poll()
    assert sum(changes) <= 1
    assert len(watched.policy.rules) == 2
