"""Review as moderators use it: the real command, a real broker, Chromium, the keyboard."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer
from playwright.sync_api import Browser, Page, expect

from dashboard.policy_text import with_threshold
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.policy import load_policy
from stream.policy.load import policy_path
from stream.records import encode
from stream.settings import KafkaSettings
from stream.topics import DECISIONS, LABELS
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings
from tests.dashboard.chromium import CHROMIUM, chromium, press, shown, visiting
from tests.dashboard.desk_feed import decisions_on, queued_labels
from tests.dashboard.label_feed import Made
from tests.dashboard.test_browser import NASTY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

THREAT = ("I will find you, number {}, and break your neck", "threat", 0.3)


class Office:
    """A running dashboard with a broker of its own."""

    def __init__(
        self, url: str, broker: EmbeddedBroker, kafka: KafkaSettings, policy: Path
    ) -> None:
        self.url = url
        self.policy = policy
        self.broker = broker
        self.kafka = kafka
        self._next = 500_000

    def queue(self, texts: list[str]) -> list[str]:
        """Send posts that the policy wants a person to see; their ids, in the queue's order."""
        now_ms = time.time_ns() // 1_000_000
        made = queued_labels(now_ms, [(text, "threat", 0.3) for text in texts], first=self._next)
        self._next += len(made)
        self._send(made)
        return [each.label.post_id for each in made]

    def _send(self, made: list[Made]) -> None:
        config = kafka_python_config(self.kafka)
        decisions = decisions_on(made, load_policy())
        assert {decision.action for decision in decisions} == {"review"}
        with closing(KafkaProducer(**config, linger_ms=5)) as producer:
            for topic, records in (
                (LABELS, [each.label for each in made]),
                (DECISIONS, decisions),
            ):
                name = topic.full_name(self.kafka.topic_prefix)
                for each, record in zip(made, records, strict=True):
                    producer.send(name, encode(record), partition=each.partition)
            producer.flush()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    with EmbeddedBroker() as broker:
        kafka = kafka_settings(broker, request_timeout_s=4.0)
        with open_admin(kafka) as admin:
            admin.create_missing()
        log, policy = folder / "log", folder / "policy.yaml"
        text = with_threshold(policy_path().read_text(), "insult", "toxicity.insult", 0.43)
        policy.write_text(text)
        environment = {
            "TIDEGATE_KAFKA__REQUEST_TIMEOUT_S": "4",
            "TIDEGATE_POLICY__PATH": str(policy),
        }
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [TIDEGATE, "dashboard", "--no-browser", "--port", "0"],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env=clean_environment(kafka_environment(kafka) | environment),
                cwd=folder,
                text=True,
            )
        try:
            deadline = time.monotonic() + 90
            while not (found := re.search(r"http://\S+", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield Office(found[0], broker, kafka, policy)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def moderator(browser: Browser, office: Office) -> Iterator[Callable[..., Page]]:
    """`moderator("rules")`: a page in a browser of somebody's own."""
    with visiting(browser, office.url) as go:
        yield lambda path="review": go(path)


def empty(page: Page) -> None:
    expect(page.get_by_text("The queue is empty")).to_be_visible(timeout=60_000)


def test_what_people_write_does_no_harm(office: Office, moderator: Callable[..., Page]) -> None:
    texts = {f"{text} I will find you and break your neck": name for name, text in NASTY.items()}
    ids = office.queue(list(texts))
    page = moderator()
    left = set(ids)
    current: str | None = shown(page)
    while current is not None:
        left.discard(current)
        assert page.locator(".desk p.text.whole").count() == 0, "veiled until asked for"
        page.keyboard.press("v")
        expect(page.locator(".desk p.text.whole")).to_be_visible()
        page.wait_for_timeout(150)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src*='127.0.0.1:9'], img[src='x'], .desk a").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator(".desk").evaluate(
            "d => [...d.children].every(e => e.getBoundingClientRect().right <= innerWidth + 1)"
        )
        # The keys stay in the window, whatever the text's length, and read from the left.
        keys = page.locator(".keys")
        box = keys.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 720
        assert keys.locator("button").first.inner_text().split() == ["A", "Allow"]
        current = press(page, "a", current)
    assert not left
    empty(page)


def test_two_browsers_never_see_the_same_post(
    office: Office, moderator: Callable[..., Page]
) -> None:
    ids = office.queue([THREAT[0].format(n) for n in range(20, 32)])
    pages = [moderator(), moderator()]
    seen: list[list[str]] = [[], []]
    at: list[str | None] = [shown(page) for page in pages]
    while any(at):
        assert at[0] != at[1]
        for n, page in enumerate(pages):
            current = at[n]
            if current is not None:
                seen[n].append(current)
                at[n] = press(page, "a", current)
    assert not set(seen[0]) & set(seen[1])
    assert sorted(seen[0] + seen[1]) == sorted(ids)
    assert len(seen[0]) >= 4
    assert len(seen[1]) >= 4
    for page in pages:
        empty(page)


def test_a_rule_is_edited_with_its_mistakes_shown_and_saved(
    office: Office, moderator: Callable[..., Page]
) -> None:
    page = moderator("rules?view=Edit&part=insult")
    field = page.get_by_role("textbox", name="Text of policy.yaml, insult")
    expect(field).to_have_value(re.compile("id: insult"), timeout=60_000)
    text = field.input_value()
    field.fill(text.replace("0.43", "0.4x"))
    expect(page.get_by_text("Not a policy yet")).to_be_visible(timeout=30_000)
    assert field.input_value() == text.replace("0.43", "0.4x"), "the hands are left alone"
    field.fill(text.replace("0.43", "0.44").replace("action: flag", "version: 2\n    action: flag"))
    expect(page.get_by_text("Loads without a mistake")).to_be_visible(timeout=30_000)
    # Letters that are Streamlit's keys elsewhere are letters here.
    field.press("End")
    field.press_sequentially(" # rc")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("As it is in force")).to_be_visible(timeout=30_000)
    saved = office.policy.read_text()
    assert "toxicity.insult >= 0.44 && !toxicity.unsupported" in saved
    assert "rc" in saved
    load_policy(office.policy)
    page.get_by_text("Changes", exact=True).click()
    expect(page.locator("[data-testid=stDataFrame]")).to_be_visible(timeout=30_000)


def test_what_the_broker_did_not_confirm_stays(
    office: Office, moderator: Callable[..., Page]
) -> None:
    office.queue([THREAT[0].format(40)])
    page = moderator()
    current = shown(page)
    office.broker.stop()
    page.keyboard.press("a")
    expect(page.locator(".desk .failure")).to_contain_text("did not confirm", timeout=90_000)
    assert shown(page) == current
