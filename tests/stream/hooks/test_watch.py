"""Targets that change while the worker runs: what is another, and what a mistake leaves in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.hooks.watch import TargetsWatch
from stream.settings import HookSettings
from tests.stream.hooks.servers import KEY, OTHER_KEY


def watching(path: Path | None) -> TargetsWatch:
    return TargetsWatch(HookSettings(path=path, allow_private=True))  # type: ignore[call-arg] # the other has a default


def test_a_target_is_another_when_its_file_or_its_secret_is(tmp_path: Path) -> None:
    key, file = tmp_path / "key", tmp_path / "hooks.yaml"
    key.write_text(KEY)
    bot = f"  bot: {{type: webhook, url: 'http://127.0.0.1/x', secret_file: {key}}}\n"
    other = "  cat: {type: command, command: [cat]}\n"
    file.write_text(f"targets:\n{bot}{other}")
    watch = watching(file)
    first = watch.loaded
    assert list(first) == ["bot", "cat"]
    file.write_text(f"# a comment\ntargets:\n{bot}{other}")
    assert not watch.poll(now=True)

    key.write_text(OTHER_KEY)
    assert watch.poll(now=True)
    assert watch.loaded["bot"] != first["bot"]
    assert watch.loaded["cat"] == first["cat"]
    file.write_text(f"targets:\n{bot}  cat: {{type: command, command: [cat], enabled: false}}\n")
    assert watch.poll(now=True)
    assert list(watch.loaded) == ["bot"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("targets: {bot: {type: slak}}", "unknown type `slak`"),
        ("targets: {bot: {type: slack, url_file: /nowhere}}", "`url_file` cannot be read"),
        ("targets: {bot: {type: slack, url_env: NOT_SET}}", "that variable is not set"),
    ],
)
def test_a_mistake_leaves_what_was(tmp_path: Path, broken: str, message: str) -> None:
    file = tmp_path / "hooks.yaml"
    file.write_text("targets: {cat: {type: command, command: [cat]}}")
    watch = watching(file)
    before = watch.loaded
    file.write_text(broken)
    assert not watch.poll(now=True)
    assert message in str(watch.error)
    assert watch.loaded is before
    file.write_text("targets: {}")
    assert watch.poll(now=True)
    assert (watch.loaded, watch.error) == ({}, None)
    file.write_text(broken)
    with pytest.raises(ConfigError, match=message):
        watching(file)


def test_a_file_that_comes_later_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watch = watching(None)
    assert watch.loaded == {}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "hooks.yaml").write_text("targets: {cat: {type: command, command: [x]}}")
    assert watch.poll(now=True)
    assert list(watch.loaded) == ["cat"]
