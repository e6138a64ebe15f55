"""Secrets: where they come from, and that they are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import ConfigError
from stream.hooks.credentials import Credentials, credentials_of, shown_url
from tests.stream.hooks.servers import KEY, OTHER_KEY, target

SLACK_URL = "https://hooks.slack.com/services/T000/B000/XXXXYYYYZZZZ"


def test_keys_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{OTHER_KEY}\n")
    webhook = target(
        f"{{type: webhook, url: 'https://x.test/y', secret_env: [NEW], secret_file: {tmp_path}/key}}"
    )
    found = credentials_of("it", webhook, {"NEW": KEY})
    assert found.keys == (KEY, OTHER_KEY)
    slack = target("{type: slack, url_env: S}")
    assert credentials_of("it", slack, {"S": SLACK_URL}).url == SLACK_URL


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("{type: slack, url_env: S}", {}, "`url_env` names `S`, and that variable is not set"),
        (
            "{type: slack, url_env: S}",
            {"S": " "},
            "`url_env` names `S`, and that variable is not set",
        ),
        ("{type: slack, url_file: /nowhere}", {}, "`url_file` cannot be read: no such file"),
        (
            "{type: webhook, url: 'https://x.test', secret_env: K}",
            {"K": "hunter2hunter2"},
            "a signing key is not `whsec_` and base64",
        ),
        (
            "{type: webhook, url: 'https://x.test', secret_env: K}",
            {"K": "whsec_aHVudGVyMg=="},
            "a signing key has 7 bytes, not 24 to 64",
        ),
    ],
)
def test_what_is_missing_is_named_and_not_shown(
    text: str, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        credentials_of("it", target(text), environ)
    assert message in str(raised.value)
    assert "hook `it`" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "aHVud" not in str(raised.value)


def test_no_secret_is_left_in_a_text_or_a_repr() -> None:
    found = Credentials(url=SLACK_URL, keys=(KEY,), token="t0ken+x/y", headers=("Basic abc",))
    assert (
        found.masked(f"{SLACK_URL} {KEY} t0ken+x/y Basic abc t0ken%2Bx%2Fy")
        == "*** *** *** *** ***"
    )
    assert found.masked("no XXXXYYYYZZZZ in /services/T000/B000/XXXXYYYYZZZZ!") == "no *** in ***!"
    assert "hooks.slack" not in repr(found)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (SLACK_URL, "https://hooks.slack.com/…"),
        ("https://user:pw@x.test:8443/a?token=b", "https://x.test:8443/…"),
        ("https://x.test/", "https://x.test/"),
        ("https://x.test?token=b", "https://x.test/…"),
        ("https://[2606:4700::1]/a", "https://[2606:4700::1]/…"),
        ("hunter2", "***"),
        ("https://x.test:port/", "***"),
    ],
)
def test_a_url_is_shown_by_its_host(url: str, shown: str) -> None:
    assert shown_url(url) == shown
