"""`hooks.yaml`: what is right becomes targets, what is wrong is shown at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import ConfigError, HooksFileError
from stream.hooks.load import load_targets, parse_targets, url_problem
from stream.hooks.targets import KINDS, Webhook, kind_of
from stream.settings import HookSettings
from tests.apache_kafka import ROOT

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_shown_as_a_compiler_shows_them(case: str) -> None:
    text = (GOLDEN / f"{case}.yaml").read_text()
    with pytest.raises(HooksFileError) as raised:
        parse_targets(text, f"{case}.yaml")
    assert f"{raised.value}\n" == (GOLDEN / f"{case}.txt").read_text()
    assert isinstance(raised.value, ConfigError), "exit code 2"


def test_there_are_cases() -> None:
    assert len(CASES) >= 5


def test_the_example_has_every_kind_and_no_mistake() -> None:
    targets = load_targets(HookSettings(path=ROOT / "config" / "hooks.example.yaml"))  # type: ignore[call-arg]
    assert {kind_of(target) for target in targets.values()} == set(KINDS)


def test_no_secret_of_the_file_is_shown_beside_a_mistake() -> None:
    with pytest.raises(HooksFileError) as raised:
        parse_targets(
            "targets: {it: {type: webhook, url: 'http://x.test/T0/s3cr3t?k=s3cr3t', "
            "secret_env: whsec_s3cr3ts3cr3t, filtr: 1}, "
            "other: {type: slack, url: 'https://hooks.x.test/s3cr3t#x'}}"
        )
    assert "filtr" in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


def test_no_file_is_no_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_targets(HookSettings()) == {}  # type: ignore[call-arg]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "hooks.yaml").write_text("targets:\n  a: {type: slack, url_env: X}\n")
    assert list(load_targets(HookSettings())) == ["a"]  # type: ignore[call-arg]
    with pytest.raises(HooksFileError, match=r"no such file or directory: `nowhere\.yaml`"):
        load_targets(HookSettings(path=Path("nowhere.yaml")))  # type: ignore[call-arg]
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HooksFileError, match="not UTF-8"):
        load_targets(HookSettings(path=Path("bytes.yaml")))  # type: ignore[call-arg]


def test_spans_of_time_are_seconds() -> None:
    (found,) = parse_targets(
        "targets: {a: {type: slack, url_env: X, retries: [0, 5s, 5m, 30 min, 2h, 0.5]}}"
    ).values()
    assert found.retries == [0, 5, 300, 1800, 7200, 0.5]


def test_http_is_for_what_is_allowed_to_be_private() -> None:
    text = "targets: {a: {type: webhook, url: 'http://127.0.0.1/x', secret_env: K}}"
    (found,) = parse_targets(text, allow_private=True).values()
    assert isinstance(found, Webhook)
    with pytest.raises(HooksFileError, match="unencrypted"):
        parse_targets(text)
    parse_targets(text.replace("secret_env", "allow_private: true, secret_env"))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60), st.sampled_from(["", "targets:\n  a:\n    type: slack\n    "]))
def test_whatever_the_file_says_it_is_targets_or_mistakes(text: str, before: str) -> None:
    try:
        parse_targets(before + text)
    except HooksFileError as exc:
        said = str(exc)
    else:
        said = "no mistake"
    assert "mistake" in said


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.test/",
        "x.test",
        "https://",
        "https://x.test:x/",
        "https://x.test/#a",
        "https://x .test/",
    ],
)
def test_what_is_no_url(url: str) -> None:
    assert url_problem(url, allow_http=True) is not None
