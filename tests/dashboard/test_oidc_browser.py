"""Signing in with OpenID Connect: a provider of its own, the real command, Chromium."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaProducer
from playwright.sync_api import Page, expect

from dashboard.sign_in import installation_secret, pseudonym
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.records import encode
from stream.topics import ALERTS
from tests.apache_kafka import free_ports
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings
from tests.dashboard.chromium import CHROMIUM, chromium
from tests.dashboard.desk_feed import alerts_at

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

SLOW_MS = 60_000
ROLES = "max@quay.example=moderator, *@quay.example=viewer"
#: What the provider says of each account.
ACCOUNTS = {
    "vera": {"email": "Vera@Quay.example", "email_verified": True},
    "max": {"email": "max@quay.example", "email_verified": True},
    "eve": {"email": "eve@elsewhere.example", "email_verified": True},
}


class Harbour(NamedTuple):
    """A dashboard that lets in whom the provider vouches for."""

    url: str
    provider: str
    users: Path


@pytest.fixture
def harbour(embedded_broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Harbour]:
    kafka = kafka_settings(embedded_broker)
    with open_admin(kafka) as admin:
        admin.create_missing()
    firing = alerts_at(time.time_ns() // 1_000_000)[0]
    with closing(KafkaProducer(**kafka_python_config(kafka))) as producer:
        producer.send(ALERTS.full_name(kafka.topic_prefix), encode(firing), partition=0).get(20)
    port, provider_port = free_ports(2)
    provider, url = f"http://127.0.0.1:{provider_port}", f"http://127.0.0.1:{port}"
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    secrets.parent.mkdir()
    secrets.write_text(
        f"""[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "{"0123456789abcdef" * 2}"
client_id = "tidegate"
client_secret = "quay"
server_metadata_url = "{provider}/.well-known/openid-configuration"
"""
    )
    environment = {
        "TIDEGATE_DASHBOARD__SIGN_IN": "oidc",
        "TIDEGATE_DASHBOARD__OIDC_ROLES": ROLES,
        "TIDEGATE_DASHBOARD__USERS": str(tmp_path / "users.json"),
    }
    claims = [f"--user-claims={json.dumps({'sub': sub} | of)}" for sub, of in ACCOUNTS.items()]
    commands: tuple[list[str | Path], ...] = (
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(provider_port), *claims],
        [TIDEGATE, "dashboard", "--no-browser", "--port", str(port)],
    )
    log = tmp_path / "log"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("w") as stderr:
            processes.extend(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                    env=clean_environment(kafka_environment(kafka) | environment), cwd=tmp_path,
                )
                for command in commands
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while f"dashboard: {url}" not in log.read_text():
            assert all(process.poll() is None for process in processes), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Harbour(url, provider, tmp_path / "users.json")
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)


def sign_in(page: Page, account: str) -> None:
    page.get_by_role("button", name="Sign in with your organisation").click(timeout=SLOW_MS)
    page.get_by_role("button", name=account, exact=True).click(timeout=SLOW_MS)


def sign_out(page: Page, harbour: Harbour) -> None:
    """At both: else the provider would let the next person in as this one."""
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(re.escape(f"{harbour.provider}/oauth2/end_session")))
    page.locator("button[type=submit]").first.click()
    nobody_is_in(page)


def nobody_is_in(page: Page) -> None:
    button = page.get_by_role("button", name="Sign in with your organisation")
    expect(button).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_test_id("stTopNavLink")).to_have_count(0)


def go(page: Page, title: str) -> None:
    page.get_by_test_id("stTopNavLink").filter(has_text=title).click(timeout=SLOW_MS)


def test_who_may_do_what_follows_from_what_the_provider_says(harbour: Harbour) -> None:
    secret = installation_secret(harbour.users)
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{harbour.url}/alerts")
        nobody_is_in(page)
        sign_in(page, "vera")
        vera = pseudonym("vera@quay.example", secret)
        expect(page.get_by_text(f"viewer, {vera}")).to_be_visible(timeout=SLOW_MS)
        go(page, "Review")
        expect(page.get_by_text("This page is not for your role")).to_be_visible(timeout=SLOW_MS)
        go(page, "Alerts")
        acknowledge = page.get_by_role("button", name="Acknowledge")
        expect(acknowledge).to_be_disabled(timeout=SLOW_MS)
        sign_out(page, harbour)

        sign_in(page, "eve")
        expect(page.get_by_text("Your account has no role here")).to_be_visible(timeout=SLOW_MS)
        expect(page.get_by_test_id("stTopNavLink")).to_have_count(0)
        sign_out(page, harbour)

        sign_in(page, "max")
        max_ = pseudonym("max@quay.example", secret)
        expect(page.get_by_text(f"moderator, {max_}")).to_be_visible(timeout=SLOW_MS)
        go(page, "Alerts")
        acknowledge.click(timeout=SLOW_MS)
        expect(page.get_by_text(f"acknowledged by {max_}")).to_be_visible(timeout=30_000)
