"""What a person sees: the real command, a real broker, Chromium."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from stream.settings import KafkaSettings
from tests.conftest import TIDEGATE, clean_environment, kafka_environment, kafka_settings
from tests.dashboard.chromium import CHROMIUM, chromium, visiting
from tests.dashboard.label_feed import Made, label_of, stream_of
from tests.dashboard.test_projector import send

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

NASTY = {
    "script": "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>",
    "markdown": "![pixel](http://127.0.0.1:9/pixel.png) [link](javascript:window.hacked=1) :red[boo]",
    "rtl": "\u202e\u2067 evil override, then plain words",
    "zalgo": "Z\u0351\u036b\u0343\u0358\u0361" * 60,
    "emoji": "\U0001f600" * 10_000,
    "one-word": "w" * 5_000,
}


class Dashboard:
    """A running `tidegate dashboard`."""

    def __init__(self, url: str, kafka: KafkaSettings, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.kafka = kafka
        self.process = process
        self._next = 100_000

    def post(self, **options: object) -> str:
        """Label a post now and produce the record; its id."""
        self._next += 1
        made = label_of(
            self._next,
            posted_ms=time.time_ns() // 1_000_000,
            rng=random.Random(self._next),
            **options,  # type: ignore[arg-type]
        )
        self.send([made])
        return made.label.post_id

    def send(self, made: list[Made]) -> None:
        send(self.kafka, made)


@pytest.fixture(scope="module")
def dashboard(
    embedded_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    kafka = kafka_settings(embedded_broker)
    with open_admin(kafka) as admin:
        admin.create_missing()
    start_ms = (int(time.time()) - 200) * 1000
    send(kafka, list(stream_of(800, start_ms=start_ms, posts_per_s=5, wave=(60, 90))))
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [TIDEGATE, "dashboard", "--no-browser", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            env=clean_environment(kafka_environment(kafka)),
            cwd=folder,
            text=True,
        )
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://\S+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Dashboard(found[0], kafka, process)
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0
    assert not _children_of(folder)


def _children_of(folder: Path) -> list[str]:
    """Processes that still work in the dashboard's folder."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cwd", "cmdline"])
        if process.info["cwd"] == str(folder) and process.pid != os.getpid()
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def visit(browser: Browser, dashboard: Dashboard) -> Iterator[Callable[..., Page]]:
    with visiting(browser, dashboard.url, height=800) as go:
        yield go


def test_abuse_is_veiled_until_it_is_asked_for(
    dashboard: Dashboard, visit: Callable[..., Page]
) -> None:
    words = "you sputtering kettle of a pundit"
    post_id = dashboard.post(text=words, abusive=True)
    page = visit("?text=sputtering")
    veiled = page.locator(f"li.post[data-post='{post_id}']")
    expect(veiled).to_be_visible(timeout=60_000)
    expect(veiled.get_by_text("Hidden:")).to_be_visible()
    assert words not in page.content()
    expect(page.get_by_text(words)).to_have_count(0)
    veiled.get_by_role("button", name="Show").click()
    expect(page.get_by_text(words)).to_be_visible()
    veiled.get_by_role("button", name="Hide again").click()
    expect(page.get_by_text(words)).to_have_count(0)


def test_one_click_shows_everything_known(dashboard: Dashboard, visit: Callable[..., Page]) -> None:
    post_id = dashboard.post(text="barge number nine is late", abusive=False, author="petra")
    page = visit("?text=barge+number+nine")
    found = page.locator(f"li.post[data-post='{post_id}']")
    expect(found).to_be_visible(timeout=60_000)
    found.get_by_role("button", name="Details").click()
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_text("About this post")).to_be_visible(timeout=30_000)
    for task in ("Toxicity", "Sentiment", "Language"):
        expect(
            drawer.get_by_role("heading", name=f"{task} tidegate/compact 2026.11")
        ).to_be_visible()
    expect(drawer.get_by_text(post_id, exact=True)).to_be_visible()
    drawer.get_by_text("Raw record").click()
    expect(drawer.get_by_text('"tidegate.label.v1"')).to_be_visible(timeout=30_000)
    expect(page).to_have_url(re.compile("post="))
    page.wait_for_timeout(5_000)  # two updates of the feed below must not close it
    expect(drawer.get_by_text("About this post")).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(page).not_to_have_url(re.compile("post="))


def test_nasty_texts_do_no_harm(dashboard: Dashboard, visit: Callable[..., Page]) -> None:
    ids = {
        name: dashboard.post(text=text, abusive=name == "script", author=f"nasty {text[:90]}")
        for name, text in NASTY.items()
    }
    after = dashboard.post(text="a quiet post after them", abusive=False)
    for path in ("", *(f"?post={post_id}" for post_id in ids.values())):
        page = visit(path)
        expect(page.locator(f"li.post[data-post='{after}']")).to_be_attached(timeout=60_000)
        if path:
            expect(page.get_by_role("dialog").get_by_text("About this post")).to_be_visible(
                timeout=30_000
            )
        veiled = page.get_by_role("button", name="Show the hidden post")
        for _ in range(min(veiled.count(), 3)):
            veiled.first.dispatch_event("click")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert (
            page.locator("img[src*='127.0.0.1:9'], img[src='x'], a[href^='javascript']").count()
            == 0
        )
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        # An override stays in its own text: the quiet post reads from the left.
        assert page.locator(f"li.post[data-post='{after}'] .author").evaluate(
            "e => e.getBoundingClientRect().left < e.closest('li').getBoundingClientRect().left + 40"
        )
        assert page.locator("li.post").evaluate_all(
            "all => all.every(e => e.scrollWidth <= e.clientWidth + 1 && e.clientHeight < 400)"
        )
        page.close()


def test_on_a_phone_nothing_is_cut_off(visit: Callable[..., Page]) -> None:
    page = visit(width=390, height=844)
    expect(page.locator("li.post").first).to_be_attached(timeout=60_000)
    expect(page.get_by_text("Throughput").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_system_page_shows_the_parts(visit: Callable[..., Page]) -> None:
    page = visit("system")
    for words in ("Projector", "Broker", "Workers", "Read model", "Dead letters", "Models"):
        expect(page.locator("strong", has_text=words).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("ready$"))).to_be_visible()


def test_a_stopped_projector_turns_the_page_amber(
    dashboard: Dashboard, visit: Callable[..., Page]
) -> None:
    page = visit()
    expect(page.locator("li.post").first).to_be_visible(timeout=60_000)
    projector = next(
        child
        for child in psutil.Process(dashboard.process.pid).children()
        if "dashboard.projector" in " ".join(child.cmdline())
    )
    projector.suspend()
    try:
        expect(page.get_by_text("This page is frozen")).to_be_visible(timeout=30_000)
    finally:
        projector.resume()
    expect(page.get_by_text("This page is frozen")).to_have_count(0, timeout=30_000)
    # Killed, it is started again and goes on.
    projector.kill()
    dashboard.post(text="a post for the next projector", abusive=False)
    expect(page.get_by_text("a post for the next projector")).to_be_visible(timeout=60_000)
